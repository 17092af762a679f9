-- Buying: requests that are neither billed nor given up. What they may still cost is held against the budget, beside what
-- was signed: `spending` counts what vouchers grew by, from here on. Before, it counted what requests cost.
CREATE TABLE unbilled_requests (
    request BLOB NOT NULL PRIMARY KEY REFERENCES requests (hash)
) STRICT, WITHOUT ROWID;
INSERT INTO unbilled_requests (request)
SELECT r.hash FROM requests r JOIN accounts a ON a.channel = r.channel
WHERE a.side = 'buying' AND r.dropped IS NULL AND NOT EXISTS (SELECT 1 FROM bills b WHERE b.request = r.hash);
