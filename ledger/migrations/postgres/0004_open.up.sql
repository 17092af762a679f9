-- Tables, columns and widths are those of SQLite's migration of the same number, and so are the reasons for them.

CREATE TABLE open_requests (
    request BYTEA NOT NULL PRIMARY KEY REFERENCES requests (hash)
);
INSERT INTO open_requests (request)
SELECT r.hash FROM requests r JOIN accounts a ON a.channel = r.channel
WHERE a.side = 'serving' AND r.dropped IS NULL AND NOT EXISTS (SELECT 1 FROM bills b WHERE b.request = r.hash);

CREATE INDEX vouchers_unusable ON vouchers (account) WHERE unusable IS NOT NULL;
CREATE INDEX receipts_unusable ON receipts (account) WHERE unusable IS NOT NULL;

CREATE INDEX channels_to_claim ON channels (
    payee, id, token, latest_deposit, latest_settled, latest_close_requested_at, confirmed_deposit, latest_finalized
) WHERE NOT latest_finalized;
