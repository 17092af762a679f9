-- Accounts, bills and vouchers are numbered, and rows that refer to them do so by number. What is recorded together then
-- lies together, at the end of its table, and only two short index entries of a receipt and its voucher lie with their
-- channel: a commit writes a fraction of the pages that rows in the order of channels take.

CREATE TABLE accounts_3 (
    id            INTEGER PRIMARY KEY,
    channel       BLOB NOT NULL UNIQUE REFERENCES channels (id),
    side          TEXT NOT NULL CHECK (side IN ('serving', 'buying')),
    -- The best usable voucher or receipt within the confirmed deposit (buying: the best signed).
    authorized    BLOB NOT NULL CHECK (length(authorized) = 16),
    -- The bills, and what is reserved (buying: authorized) for requests without one.
    spent         BLOB NOT NULL CHECK (length(spent) = 16),
    billed        BLOB NOT NULL CHECK (length(billed) = 16),
    head_sequence BLOB NOT NULL CHECK (length(head_sequence) = 8),
    head_input    BLOB NOT NULL CHECK (length(head_input) = 8),
    head_output   BLOB NOT NULL CHECK (length(head_output) = 8),
    head_amount   BLOB NOT NULL CHECK (length(head_amount) = 16),
    head_hash     BLOB NOT NULL CHECK (length(head_hash) = 32),
    -- Buying: the newest receipt the executor is known to have.
    confirmed_sequence BLOB NOT NULL CHECK (length(confirmed_sequence) = 8)
) STRICT;
INSERT INTO accounts_3 (channel, side, authorized, spent, billed, head_sequence, head_input, head_output, head_amount,
                        head_hash, confirmed_sequence)
SELECT channel, side, authorized, spent, billed, head_sequence, head_input, head_output, head_amount, head_hash,
       confirmed_sequence FROM accounts ORDER BY channel;
DROP TABLE accounts;
ALTER TABLE accounts_3 RENAME TO accounts;
CREATE INDEX accounts_exposed ON accounts (channel) WHERE spent > authorized;

ALTER TABLE bills RENAME TO bills_2;
ALTER TABLE vouchers RENAME TO vouchers_2;
ALTER TABLE receipts RENAME TO receipts_2;

CREATE TABLE bills (
    id            INTEGER PRIMARY KEY,
    account       INTEGER NOT NULL REFERENCES accounts (id),
    request       BLOB NOT NULL UNIQUE CHECK (length(request) = 32),
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    response_hash BLOB NOT NULL CHECK (length(response_hash) = 32),
    input         INTEGER NOT NULL,
    output        INTEGER NOT NULL,
    amount        BLOB NOT NULL CHECK (length(amount) = 16),
    completed_at  BLOB NOT NULL CHECK (length(completed_at) = 8),
    UNIQUE (account, id)
) STRICT;
INSERT INTO bills (account, request, hash, response_hash, input, output, amount, completed_at)
SELECT a.id, b.request, b.hash, b.response_hash, b.input, b.output, b.amount, b.completed_at
FROM bills_2 b JOIN accounts a ON a.channel = b.channel ORDER BY b.completed_at, b.request;

CREATE TABLE vouchers (
    id        INTEGER PRIMARY KEY,
    account   INTEGER NOT NULL REFERENCES accounts (id),
    amount    BLOB NOT NULL CHECK (length(amount) = 16),
    signature BLOB NOT NULL CHECK (length(signature) = 65),
    unusable  TEXT,
    UNIQUE (account, amount)
) STRICT;
INSERT INTO vouchers (account, amount, signature, unusable)
SELECT a.id, v.amount, v.signature, v.unusable
FROM vouchers_2 v JOIN accounts a ON a.channel = v.channel ORDER BY a.id, v.amount;

CREATE TABLE receipts (
    -- The bill it links: at most one receipt does.
    bill              INTEGER PRIMARY KEY,
    account           INTEGER NOT NULL REFERENCES accounts (id),
    sequence          BLOB NOT NULL CHECK (length(sequence) = 8),
    hash              BLOB NOT NULL CHECK (length(hash) = 32),
    previous          BLOB NOT NULL CHECK (length(previous) = 32),
    cumulative_input  BLOB NOT NULL CHECK (length(cumulative_input) = 8),
    cumulative_output BLOB NOT NULL CHECK (length(cumulative_output) = 8),
    cumulative_amount BLOB NOT NULL CHECK (length(cumulative_amount) = 16),
    payer_signature   BLOB NOT NULL CHECK (length(payer_signature) = 65),
    bill_signature    BLOB NOT NULL CHECK (length(bill_signature) = 65),
    unusable          TEXT,
    UNIQUE (account, sequence),
    FOREIGN KEY (account, bill) REFERENCES bills (account, id)
) STRICT;
INSERT INTO receipts (bill, account, sequence, hash, previous, cumulative_input, cumulative_output, cumulative_amount,
                      payer_signature, bill_signature, unusable)
SELECT b.id, b.account, p.sequence, p.hash, p.previous, p.cumulative_input, p.cumulative_output, p.cumulative_amount,
       p.payer_signature, p.bill_signature, p.unusable
FROM receipts_2 p JOIN bills b ON b.request = p.request ORDER BY b.id;

DROP TABLE receipts_2;
DROP TABLE vouchers_2;
DROP TABLE bills_2;
