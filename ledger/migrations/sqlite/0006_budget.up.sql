-- Buying: requests that are neither billed nor given up: what they may still cost is held against the budget.
CREATE TABLE unbilled_requests (
    request BLOB NOT NULL PRIMARY KEY REFERENCES requests (hash)
) STRICT, WITHOUT ROWID;
INSERT INTO unbilled_requests (request)
SELECT r.hash FROM requests r JOIN accounts a ON a.channel = r.channel
WHERE a.side = 'buying' AND r.dropped IS NULL AND NOT EXISTS (SELECT 1 FROM bills b WHERE b.request = r.hash);

-- Buying: what vouchers and receipts grew by that were signed in an hour. Until now only what requests cost was counted;
-- they grew by as much at the least.
CREATE TABLE signatures (
    token    BLOB NOT NULL CHECK (length(token) = 20),
    hour     BLOB NOT NULL CHECK (length(hour) = 8),
    operator BLOB NOT NULL CHECK (length(operator) = 20),
    amount   BLOB NOT NULL CHECK (length(amount) = 16),
    PRIMARY KEY (token, hour, operator)
) STRICT, WITHOUT ROWID;
INSERT INTO signatures (token, hour, operator, amount) SELECT token, hour, operator, amount FROM spending;
