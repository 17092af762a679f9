-- Every number of a document or of the chain is stored in its full width, big-endian: 8 bytes for a uint64, 16 for a
-- uint128, 32 for a uint256. Byte order is then number order, so SQL compares them rightly, and nothing is ever cut to
-- fit 63-bit integers or floats.

-- What the store is for. One row.
CREATE TABLE store (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    chain_id    BLOB NOT NULL CHECK (length(chain_id) = 8),
    escrow      BLOB NOT NULL CHECK (length(escrow) = 20),
    settlement  BLOB NOT NULL CHECK (length(settlement) = 20),
    -- Counts commits. The lock file beside the store repeats it, so that a restored backup is noticed.
    generation  INTEGER NOT NULL,
    -- When a restored backup was noticed last, Unix seconds.
    restored_at BLOB CHECK (length(restored_at) = 8),
    -- The newest block that counts as confirmed. The follower's cursor is the newest row of `blocks`.
    confirmed   BLOB CHECK (length(confirmed) = 8)
) STRICT;

CREATE TABLE blocks (
    number    BLOB NOT NULL PRIMARY KEY CHECK (length(number) = 8),
    hash      BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    parent    BLOB NOT NULL CHECK (length(parent) = 32),
    timestamp BLOB NOT NULL CHECK (length(timestamp) = 8)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    block_hash  BLOB NOT NULL CHECK (length(block_hash) = 32),
    -- The log's index in the block, and the place in the list of those that speak of many channels: 32 bits each.
    position    BLOB NOT NULL CHECK (length(position) = 8),
    block       BLOB NOT NULL CHECK (length(block) = 8),
    transaction_hash BLOB NOT NULL CHECK (length(transaction_hash) = 32),
    -- The channel it is about, or the account.
    channel     BLOB CHECK (length(channel) = 32),
    account     BLOB CHECK (length(account) = 20),
    name        TEXT NOT NULL,
    data        TEXT NOT NULL,
    PRIMARY KEY (block_hash, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_in_order ON events (block, position);
CREATE INDEX events_of_channel ON events (channel, block, position) WHERE channel IS NOT NULL;
CREATE INDEX events_of_account ON events (account, block, position) WHERE account IS NOT NULL;

-- A channel: what its id commits to, and its state on the chain, derived from the events up to the confirmed block and
-- up to the newest. `opened_in` is NULL while no event has opened it.
CREATE TABLE channels (
    id                BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    payer             BLOB NOT NULL CHECK (length(payer) = 20),
    payee             BLOB NOT NULL CHECK (length(payee) = 20),
    token             BLOB NOT NULL CHECK (length(token) = 20),
    salt              BLOB NOT NULL CHECK (length(salt) = 32),
    authorized_signer BLOB NOT NULL CHECK (length(authorized_signer) = 20),
    opened_in         BLOB CHECK (length(opened_in) = 8),
    refunds_to_balance INTEGER NOT NULL DEFAULT 0,
    -- What a client knows of a channel it is about to open.
    operator          BLOB CHECK (length(operator) = 20),
    client_random     BLOB CHECK (length(client_random) = 32),
    planned_deposit   BLOB CHECK (length(planned_deposit) = 16),
    confirmed_deposit BLOB CHECK (length(confirmed_deposit) = 16),
    confirmed_settled BLOB CHECK (length(confirmed_settled) = 16),
    confirmed_close_requested_at BLOB CHECK (length(confirmed_close_requested_at) = 8),
    confirmed_finalized INTEGER,
    latest_deposit    BLOB CHECK (length(latest_deposit) = 16),
    latest_settled    BLOB CHECK (length(latest_settled) = 16),
    latest_close_requested_at BLOB CHECK (length(latest_close_requested_at) = 8),
    latest_finalized  INTEGER,
    CHECK ((confirmed_deposit IS NULL) = (confirmed_settled IS NULL)),
    CHECK ((latest_deposit IS NULL) = (latest_settled IS NULL)),
    CHECK (confirmed_settled <= confirmed_deposit),
    CHECK (latest_settled <= latest_deposit)
) STRICT, WITHOUT ROWID;
CREATE INDEX channels_of_payer ON channels (payer, token);
CREATE INDEX channels_of_payee ON channels (payee);

-- A channel's money as one side of it keeps count. Totals of the rows below, kept in the same transactions.
CREATE TABLE accounts (
    channel       BLOB NOT NULL PRIMARY KEY REFERENCES channels (id),
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
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_exposed ON accounts (channel) WHERE spent > authorized;

CREATE TABLE requests (
    hash          BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    channel       BLOB NOT NULL REFERENCES accounts (channel),
    nonce         BLOB NOT NULL CHECK (length(nonce) = 32),
    operator      BLOB NOT NULL CHECK (length(operator) = 20),
    model         BLOB NOT NULL CHECK (length(model) = 32),
    prompt_hash   BLOB NOT NULL CHECK (length(prompt_hash) = 32),
    max_input     INTEGER NOT NULL,
    max_output    INTEGER NOT NULL,
    input_price   BLOB NOT NULL CHECK (length(input_price) = 16),
    output_price  BLOB NOT NULL CHECK (length(output_price) = 16),
    deadline      BLOB NOT NULL CHECK (length(deadline) = 8),
    signature     BLOB NOT NULL CHECK (length(signature) = 65),
    content_salt  BLOB NOT NULL CHECK (length(content_salt) = 32),
    begun_at      BLOB NOT NULL CHECK (length(begun_at) = 8),
    -- Serving: set aside for its delivery. Buying: authorized for it.
    reserved      BLOB NOT NULL CHECK (length(reserved) = 16),
    -- Serving: what the client says it received.
    received_input  INTEGER,
    received_output INTEGER,
    received_hash   BLOB CHECK (length(received_hash) = 32),
    -- It will never have a bill (serving: waived, buying: abandoned), and why.
    dropped       TEXT,
    UNIQUE (channel, nonce)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE vouchers (
    channel   BLOB NOT NULL REFERENCES accounts (channel),
    amount    BLOB NOT NULL CHECK (length(amount) = 16),
    signature BLOB NOT NULL CHECK (length(signature) = 65),
    unusable  TEXT,
    PRIMARY KEY (channel, amount)
) STRICT, WITHOUT ROWID;

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

-- Buying: own receipts that were signed and then given up for others, with the bills they linked. Both signatures stand
-- for ever, so they are kept; nothing counts them.
CREATE TABLE withdrawn_receipts (
    id                INTEGER PRIMARY KEY,
    channel           BLOB NOT NULL REFERENCES accounts (channel),
    sequence          BLOB NOT NULL CHECK (length(sequence) = 8),
    hash              BLOB NOT NULL CHECK (length(hash) = 32),
    previous          BLOB NOT NULL CHECK (length(previous) = 32),
    cumulative_input  BLOB NOT NULL CHECK (length(cumulative_input) = 8),
    cumulative_output BLOB NOT NULL CHECK (length(cumulative_output) = 8),
    cumulative_amount BLOB NOT NULL CHECK (length(cumulative_amount) = 16),
    request           BLOB NOT NULL REFERENCES requests (hash),
    payer_signature   BLOB NOT NULL CHECK (length(payer_signature) = 65),
    bill_signature    BLOB NOT NULL CHECK (length(bill_signature) = 65),
    bill_hash         BLOB NOT NULL CHECK (length(bill_hash) = 32),
    response_hash     BLOB NOT NULL CHECK (length(response_hash) = 32),
    input             INTEGER NOT NULL,
    output            INTEGER NOT NULL,
    amount            BLOB NOT NULL CHECK (length(amount) = 16),
    completed_at      BLOB NOT NULL CHECK (length(completed_at) = 8),
    withdrawn_at      BLOB NOT NULL CHECK (length(withdrawn_at) = 8),
    reason            TEXT NOT NULL
) STRICT;
CREATE INDEX withdrawn_receipts_of_channel ON withdrawn_receipts (channel, id);

-- Buying: what requests begun in an hour cost, or may cost while they have no bill.
CREATE TABLE spending (
    token    BLOB NOT NULL CHECK (length(token) = 20),
    hour     BLOB NOT NULL CHECK (length(hour) = 8),
    operator BLOB NOT NULL CHECK (length(operator) = 20),
    amount   BLOB NOT NULL CHECK (length(amount) = 16),
    PRIMARY KEY (token, hour, operator)
) STRICT, WITHOUT ROWID;

-- Buying: how executors did.
CREATE TABLE observations (
    id                  INTEGER PRIMARY KEY,
    operator            BLOB NOT NULL CHECK (length(operator) = 20),
    at                  BLOB NOT NULL CHECK (length(at) = 8),
    outcome             TEXT NOT NULL CHECK (outcome IN ('completed', 'failed', 'refused', 'overbilled')),
    first_token_micros  INTEGER,
    tokens_per_second   REAL
) STRICT;
CREATE INDEX observations_of_operator ON observations (operator, id);

-- Signed transactions, stored before they are broadcast.
CREATE TABLE transactions (
    id           INTEGER PRIMARY KEY,
    sender       BLOB NOT NULL CHECK (length(sender) = 20),
    nonce        BLOB NOT NULL CHECK (length(nonce) = 8),
    hash         BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    raw          BLOB NOT NULL,
    purpose      TEXT NOT NULL,
    replaces     INTEGER REFERENCES transactions (id),
    max_fee      BLOB NOT NULL CHECK (length(max_fee) = 16),
    priority_fee BLOB NOT NULL CHECK (length(priority_fee) = 16),
    gas_limit    BLOB NOT NULL CHECK (length(gas_limit) = 8),
    deadline     BLOB CHECK (length(deadline) = 8),
    recorded_at  BLOB NOT NULL CHECK (length(recorded_at) = 8),
    broadcast_at BLOB CHECK (length(broadcast_at) = 8),
    -- NULL while its fate is unknown.
    finish       TEXT,
    dropped      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (sender, nonce, hash)
) STRICT;
CREATE INDEX transactions_pending ON transactions (sender, nonce) WHERE finish IS NULL;

-- Deadlines. A row goes only with the event it came from; otherwise it is resolved.
CREATE TABLE obligations (
    id           INTEGER PRIMARY KEY,
    channel      BLOB NOT NULL REFERENCES channels (id),
    requested_at BLOB NOT NULL CHECK (length(requested_at) = 8),
    deadline     BLOB NOT NULL CHECK (length(deadline) = 8),
    block_hash   BLOB NOT NULL,
    position    BLOB NOT NULL,
    resolution   TEXT,
    UNIQUE (block_hash, position)
) STRICT;
CREATE INDEX obligations_open ON obligations (deadline) WHERE resolution IS NULL;
