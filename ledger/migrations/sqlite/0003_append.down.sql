ALTER TABLE bills RENAME TO bills_3;
ALTER TABLE vouchers RENAME TO vouchers_3;
ALTER TABLE receipts RENAME TO receipts_3;

CREATE TABLE bills (
    channel       BLOB NOT NULL REFERENCES accounts (channel),
    request       BLOB NOT NULL UNIQUE CHECK (length(request) = 32),
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    response_hash BLOB NOT NULL CHECK (length(response_hash) = 32),
    input         INTEGER NOT NULL,
    output        INTEGER NOT NULL,
    amount        BLOB NOT NULL CHECK (length(amount) = 16),
    completed_at  BLOB NOT NULL CHECK (length(completed_at) = 8),
    PRIMARY KEY (channel, request)
) STRICT, WITHOUT ROWID;
INSERT INTO bills (channel, request, hash, response_hash, input, output, amount, completed_at)
SELECT a.channel, b.request, b.hash, b.response_hash, b.input, b.output, b.amount, b.completed_at
FROM bills_3 b JOIN accounts a ON a.id = b.account ORDER BY a.channel, b.request;

CREATE TABLE vouchers (
    channel   BLOB NOT NULL REFERENCES accounts (channel),
    amount    BLOB NOT NULL CHECK (length(amount) = 16),
    signature BLOB NOT NULL CHECK (length(signature) = 65),
    unusable  TEXT,
    PRIMARY KEY (channel, amount)
) STRICT, WITHOUT ROWID;
INSERT INTO vouchers (channel, amount, signature, unusable)
SELECT a.channel, v.amount, v.signature, v.unusable
FROM vouchers_3 v JOIN accounts a ON a.id = v.account ORDER BY a.channel, v.amount;

CREATE TABLE receipts (
    channel           BLOB NOT NULL REFERENCES accounts (channel),
    sequence          BLOB NOT NULL CHECK (length(sequence) = 8),
    hash              BLOB NOT NULL CHECK (length(hash) = 32),
    previous          BLOB NOT NULL CHECK (length(previous) = 32),
    cumulative_input  BLOB NOT NULL CHECK (length(cumulative_input) = 8),
    cumulative_output BLOB NOT NULL CHECK (length(cumulative_output) = 8),
    cumulative_amount BLOB NOT NULL CHECK (length(cumulative_amount) = 16),
    request           BLOB NOT NULL CHECK (length(request) = 32),
    payer_signature   BLOB NOT NULL CHECK (length(payer_signature) = 65),
    bill_signature    BLOB NOT NULL CHECK (length(bill_signature) = 65),
    unusable          TEXT,
    PRIMARY KEY (channel, sequence),
    UNIQUE (channel, request),
    FOREIGN KEY (channel, request) REFERENCES bills (channel, request)
) STRICT, WITHOUT ROWID;
INSERT INTO receipts (channel, sequence, hash, previous, cumulative_input, cumulative_output, cumulative_amount, request,
                      payer_signature, bill_signature, unusable)
SELECT a.channel, p.sequence, p.hash, p.previous, p.cumulative_input, p.cumulative_output, p.cumulative_amount,
       b.request, p.payer_signature, p.bill_signature, p.unusable
FROM receipts_3 p JOIN bills_3 b ON b.id = p.bill JOIN accounts a ON a.id = p.account
ORDER BY a.channel, p.sequence;

DROP TABLE receipts_3;
DROP TABLE vouchers_3;
DROP TABLE bills_3;

CREATE TABLE accounts_2 (
    channel       BLOB NOT NULL PRIMARY KEY REFERENCES channels (id),
    side          TEXT NOT NULL CHECK (side IN ('serving', 'buying')),
    authorized    BLOB NOT NULL CHECK (length(authorized) = 16),
    spent         BLOB NOT NULL CHECK (length(spent) = 16),
    billed        BLOB NOT NULL CHECK (length(billed) = 16),
    head_sequence BLOB NOT NULL CHECK (length(head_sequence) = 8),
    head_input    BLOB NOT NULL CHECK (length(head_input) = 8),
    head_output   BLOB NOT NULL CHECK (length(head_output) = 8),
    head_amount   BLOB NOT NULL CHECK (length(head_amount) = 16),
    head_hash     BLOB NOT NULL CHECK (length(head_hash) = 32),
    confirmed_sequence BLOB NOT NULL CHECK (length(confirmed_sequence) = 8)
) STRICT, WITHOUT ROWID;
INSERT INTO accounts_2
SELECT channel, side, authorized, spent, billed, head_sequence, head_input, head_output, head_amount, head_hash,
       confirmed_sequence FROM accounts ORDER BY channel;
DROP TABLE accounts;
ALTER TABLE accounts_2 RENAME TO accounts;
CREATE INDEX accounts_exposed ON accounts (channel) WHERE spent > authorized;
