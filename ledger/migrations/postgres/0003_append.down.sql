ALTER TABLE bills RENAME TO bills_3;
ALTER TABLE vouchers RENAME TO vouchers_3;
ALTER TABLE receipts RENAME TO receipts_3;

CREATE TABLE bills (
    channel       BYTEA NOT NULL REFERENCES accounts (channel),
    request       BYTEA NOT NULL UNIQUE CHECK (length(request) = 32),
    hash          BYTEA NOT NULL CHECK (length(hash) = 32),
    response_hash BYTEA NOT NULL CHECK (length(response_hash) = 32),
    input         BIGINT NOT NULL,
    output        BIGINT NOT NULL,
    amount        BYTEA NOT NULL CHECK (length(amount) = 16),
    completed_at  BYTEA NOT NULL CHECK (length(completed_at) = 8),
    PRIMARY KEY (channel, request)
);
INSERT INTO bills (channel, request, hash, response_hash, input, output, amount, completed_at)
SELECT a.channel, b.request, b.hash, b.response_hash, b.input, b.output, b.amount, b.completed_at
FROM bills_3 b JOIN accounts a ON a.id = b.account ORDER BY a.channel, b.request;

CREATE TABLE vouchers (
    channel   BYTEA NOT NULL REFERENCES accounts (channel),
    amount    BYTEA NOT NULL CHECK (length(amount) = 16),
    signature BYTEA NOT NULL CHECK (length(signature) = 65),
    unusable  TEXT,
    PRIMARY KEY (channel, amount)
);
INSERT INTO vouchers (channel, amount, signature, unusable)
SELECT a.channel, v.amount, v.signature, v.unusable
FROM vouchers_3 v JOIN accounts a ON a.id = v.account ORDER BY a.channel, v.amount;

CREATE TABLE receipts (
    channel           BYTEA NOT NULL REFERENCES accounts (channel),
    sequence          BYTEA NOT NULL CHECK (length(sequence) = 8),
    hash              BYTEA NOT NULL CHECK (length(hash) = 32),
    previous          BYTEA NOT NULL CHECK (length(previous) = 32),
    cumulative_input  BYTEA NOT NULL CHECK (length(cumulative_input) = 8),
    cumulative_output BYTEA NOT NULL CHECK (length(cumulative_output) = 8),
    cumulative_amount BYTEA NOT NULL CHECK (length(cumulative_amount) = 16),
    request           BYTEA NOT NULL CHECK (length(request) = 32),
    payer_signature   BYTEA NOT NULL CHECK (length(payer_signature) = 65),
    bill_signature    BYTEA NOT NULL CHECK (length(bill_signature) = 65),
    unusable          TEXT,
    PRIMARY KEY (channel, sequence),
    UNIQUE (channel, request),
    FOREIGN KEY (channel, request) REFERENCES bills (channel, request)
);
INSERT INTO receipts (channel, sequence, hash, previous, cumulative_input, cumulative_output, cumulative_amount, request,
                      payer_signature, bill_signature, unusable)
SELECT a.channel, p.sequence, p.hash, p.previous, p.cumulative_input, p.cumulative_output, p.cumulative_amount,
       b.request, p.payer_signature, p.bill_signature, p.unusable
FROM receipts_3 p JOIN bills_3 b ON b.id = p.bill JOIN accounts a ON a.id = p.account
ORDER BY a.channel, p.sequence;

DROP TABLE receipts_3;
DROP TABLE vouchers_3;
DROP TABLE bills_3;

ALTER TABLE accounts DROP COLUMN id;
