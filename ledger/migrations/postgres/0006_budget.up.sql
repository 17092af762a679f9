-- Tables, columns and widths are those of SQLite's migration of the same number, and so are the reasons for them.

CREATE TABLE unbilled_requests (
    request BYTEA NOT NULL PRIMARY KEY REFERENCES requests (hash)
);
INSERT INTO unbilled_requests (request)
SELECT r.hash FROM requests r JOIN accounts a ON a.channel = r.channel
WHERE a.side = 'buying' AND r.dropped IS NULL AND NOT EXISTS (SELECT 1 FROM bills b WHERE b.request = r.hash);

CREATE TABLE signatures (
    token    BYTEA NOT NULL CHECK (length(token) = 20),
    hour     BYTEA NOT NULL CHECK (length(hour) = 8),
    operator BYTEA NOT NULL CHECK (length(operator) = 20),
    amount   BYTEA NOT NULL CHECK (length(amount) = 16),
    PRIMARY KEY (token, hour, operator)
);
INSERT INTO signatures (token, hour, operator, amount) SELECT token, hour, operator, amount FROM spending;
