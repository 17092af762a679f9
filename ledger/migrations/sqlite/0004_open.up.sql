-- What a start looks for among millions of rows, and hardly ever finds.

-- Serving: requests that were taken on and are neither billed nor dropped. A table of its own: the few that there are at a
-- time lie on one page, however many requests there were.
CREATE TABLE open_requests (
    request BLOB NOT NULL PRIMARY KEY REFERENCES requests (hash)
) STRICT, WITHOUT ROWID;
INSERT INTO open_requests (request)
SELECT r.hash FROM requests r JOIN accounts a ON a.channel = r.channel
WHERE a.side = 'serving' AND r.dropped IS NULL AND NOT EXISTS (SELECT 1 FROM bills b WHERE b.request = r.hash);

-- Authorizations that the chain refused.
CREATE INDEX vouchers_unusable ON vouchers (account) WHERE unusable IS NOT NULL;
CREATE INDEX receipts_unusable ON receipts (account) WHERE unusable IS NOT NULL;

-- What every plan reads of a payee's channels, in one run through this index instead of a look-up each.
CREATE INDEX channels_to_claim ON channels (
    payee, id, token, latest_deposit, latest_settled, latest_close_requested_at, confirmed_deposit, latest_finalized
) WHERE NOT latest_finalized;
