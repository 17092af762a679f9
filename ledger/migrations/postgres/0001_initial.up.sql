-- Tables, columns and widths are those of SQLite's migration of the same number, and so are the reasons for them: numbers
-- big-endian in their full width, so that byte order is number order.

-- Marks the schema as one of these stores, and says which version it has. One row.
CREATE TABLE store_schema (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    application BIGINT NOT NULL,
    version     BIGINT NOT NULL
);

-- What the store is for. One row.
CREATE TABLE store (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    chain_id    BYTEA NOT NULL CHECK (length(chain_id) = 8),
    escrow      BYTEA NOT NULL CHECK (length(escrow) = 20),
    settlement  BYTEA NOT NULL CHECK (length(settlement) = 20),
    -- Counts commits. Whoever writes holds this row's lock until it commits, so that the writers of all processes take
    -- turns.
    generation  BIGINT NOT NULL,
    -- Counts elections: only who was elected last may follow the chain, claim and close.
    epoch       BIGINT NOT NULL DEFAULT 0,
    -- When a restored backup was noticed last, Unix seconds.
    restored_at BYTEA CHECK (length(restored_at) = 8),
    -- The newest block that counts as confirmed. The follower's cursor is the newest row of `blocks`.
    confirmed   BYTEA CHECK (length(confirmed) = 8)
) WITH (fillfactor = 10);

-- The newest commit of each home that writes here. Its witness file repeats it: so a store that lost a commit, because
-- an older copy was put back or a replica took over, is noticed, and so is what became of a commit without an answer.
CREATE TABLE writers (
    id         BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    generation BIGINT NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE blocks (
    number    BYTEA NOT NULL PRIMARY KEY CHECK (length(number) = 8),
    hash      BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    parent    BYTEA NOT NULL CHECK (length(parent) = 32),
    timestamp BYTEA NOT NULL CHECK (length(timestamp) = 8)
);

CREATE TABLE events (
    block_hash  BYTEA NOT NULL CHECK (length(block_hash) = 32),
    -- The log's index in the block, and the place in the list of those that speak of many channels: 32 bits each.
    position    BYTEA NOT NULL CHECK (length(position) = 8),
    block       BYTEA NOT NULL CHECK (length(block) = 8),
    transaction_hash BYTEA NOT NULL CHECK (length(transaction_hash) = 32),
    -- The channel it is about, or the account.
    channel     BYTEA CHECK (length(channel) = 32),
    account     BYTEA CHECK (length(account) = 20),
    name        TEXT NOT NULL,
    data        TEXT NOT NULL,
    PRIMARY KEY (block_hash, position)
);
CREATE INDEX events_in_order ON events (block, position);
CREATE INDEX events_of_channel ON events (channel, block, position) WHERE channel IS NOT NULL;
CREATE INDEX events_of_account ON events (account, block, position) WHERE account IS NOT NULL;

-- A channel: what its id commits to, and its state on the chain, derived from the events up to the confirmed block and
-- up to the newest. `opened_in` is NULL while no event has opened it.
CREATE TABLE channels (
    id                BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    payer             BYTEA NOT NULL CHECK (length(payer) = 20),
    payee             BYTEA NOT NULL CHECK (length(payee) = 20),
    token             BYTEA NOT NULL CHECK (length(token) = 20),
    salt              BYTEA NOT NULL CHECK (length(salt) = 32),
    authorized_signer BYTEA NOT NULL CHECK (length(authorized_signer) = 20),
    opened_in         BYTEA CHECK (length(opened_in) = 8),
    refunds_to_balance BOOLEAN NOT NULL DEFAULT FALSE,
    -- What a client knows of a channel it is about to open.
    operator          BYTEA CHECK (length(operator) = 20),
    client_random     BYTEA CHECK (length(client_random) = 32),
    planned_deposit   BYTEA CHECK (length(planned_deposit) = 16),
    confirmed_deposit BYTEA CHECK (length(confirmed_deposit) = 16),
    confirmed_settled BYTEA CHECK (length(confirmed_settled) = 16),
    confirmed_close_requested_at BYTEA CHECK (length(confirmed_close_requested_at) = 8),
    confirmed_finalized BOOLEAN,
    latest_deposit    BYTEA CHECK (length(latest_deposit) = 16),
    latest_settled    BYTEA CHECK (length(latest_settled) = 16),
    latest_close_requested_at BYTEA CHECK (length(latest_close_requested_at) = 8),
    latest_finalized  BOOLEAN,
    CHECK ((confirmed_deposit IS NULL) = (confirmed_settled IS NULL)),
    CHECK ((latest_deposit IS NULL) = (latest_settled IS NULL)),
    CHECK (confirmed_settled <= confirmed_deposit),
    CHECK (latest_settled <= latest_deposit)
);
CREATE INDEX channels_of_payer ON channels (payer, token);
CREATE INDEX channels_of_payee ON channels (payee);

-- A channel's money as one side of it keeps count. Totals of the rows below, kept in the same transactions.
CREATE TABLE accounts (
    channel       BYTEA NOT NULL PRIMARY KEY REFERENCES channels (id),
    side          TEXT NOT NULL CHECK (side IN ('serving', 'buying')),
    -- The best usable voucher or receipt within the confirmed deposit (buying: the best signed).
    authorized    BYTEA NOT NULL CHECK (length(authorized) = 16),
    -- The bills, and what is reserved (buying: authorized) for requests without one.
    spent         BYTEA NOT NULL CHECK (length(spent) = 16),
    billed        BYTEA NOT NULL CHECK (length(billed) = 16),
    head_sequence BYTEA NOT NULL CHECK (length(head_sequence) = 8),
    head_input    BYTEA NOT NULL CHECK (length(head_input) = 8),
    head_output   BYTEA NOT NULL CHECK (length(head_output) = 8),
    head_amount   BYTEA NOT NULL CHECK (length(head_amount) = 16),
    head_hash     BYTEA NOT NULL CHECK (length(head_hash) = 32),
    -- Buying: the newest receipt the executor is known to have.
    confirmed_sequence BYTEA NOT NULL CHECK (length(confirmed_sequence) = 8)
);
CREATE INDEX accounts_exposed ON accounts (channel) WHERE spent > authorized;

CREATE TABLE requests (
    hash          BYTEA NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    channel       BYTEA NOT NULL REFERENCES accounts (channel),
    nonce         BYTEA NOT NULL CHECK (length(nonce) = 32),
    operator      BYTEA NOT NULL CHECK (length(operator) = 20),
    model         BYTEA NOT NULL CHECK (length(model) = 32),
    prompt_hash   BYTEA NOT NULL CHECK (length(prompt_hash) = 32),
    max_input     BIGINT NOT NULL,
    max_output    BIGINT NOT NULL,
    input_price   BYTEA NOT NULL CHECK (length(input_price) = 16),
    output_price  BYTEA NOT NULL CHECK (length(output_price) = 16),
    deadline      BYTEA NOT NULL CHECK (length(deadline) = 8),
    signature     BYTEA NOT NULL CHECK (length(signature) = 65),
    content_salt  BYTEA NOT NULL CHECK (length(content_salt) = 32),
    begun_at      BYTEA NOT NULL CHECK (length(begun_at) = 8),
    -- Serving: set aside for its delivery. Buying: authorized for it.
    reserved      BYTEA NOT NULL CHECK (length(reserved) = 16),
    -- Serving: what the client says it received.
    received_input  BIGINT,
    received_output BIGINT,
    received_hash   BYTEA CHECK (length(received_hash) = 32),
    -- It will never have a bill (serving: waived, buying: abandoned), and why.
    dropped       TEXT,
    UNIQUE (channel, nonce)
);

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

CREATE TABLE vouchers (
    channel   BYTEA NOT NULL REFERENCES accounts (channel),
    amount    BYTEA NOT NULL CHECK (length(amount) = 16),
    signature BYTEA NOT NULL CHECK (length(signature) = 65),
    unusable  TEXT,
    PRIMARY KEY (channel, amount)
);

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

-- Buying: own receipts that were signed and then given up for others, with the bills they linked. Both signatures stand
-- for ever, so they are kept; nothing counts them.
CREATE TABLE withdrawn_receipts (
    id                BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    channel           BYTEA NOT NULL REFERENCES accounts (channel),
    sequence          BYTEA NOT NULL CHECK (length(sequence) = 8),
    hash              BYTEA NOT NULL CHECK (length(hash) = 32),
    previous          BYTEA NOT NULL CHECK (length(previous) = 32),
    cumulative_input  BYTEA NOT NULL CHECK (length(cumulative_input) = 8),
    cumulative_output BYTEA NOT NULL CHECK (length(cumulative_output) = 8),
    cumulative_amount BYTEA NOT NULL CHECK (length(cumulative_amount) = 16),
    request           BYTEA NOT NULL REFERENCES requests (hash),
    payer_signature   BYTEA NOT NULL CHECK (length(payer_signature) = 65),
    bill_signature    BYTEA NOT NULL CHECK (length(bill_signature) = 65),
    bill_hash         BYTEA NOT NULL CHECK (length(bill_hash) = 32),
    response_hash     BYTEA NOT NULL CHECK (length(response_hash) = 32),
    input             BIGINT NOT NULL,
    output            BIGINT NOT NULL,
    amount            BYTEA NOT NULL CHECK (length(amount) = 16),
    completed_at      BYTEA NOT NULL CHECK (length(completed_at) = 8),
    withdrawn_at      BYTEA NOT NULL CHECK (length(withdrawn_at) = 8),
    reason            TEXT NOT NULL
);
CREATE INDEX withdrawn_receipts_of_channel ON withdrawn_receipts (channel, id);

-- Buying: what requests begun in an hour cost, or may cost while they have no bill.
CREATE TABLE spending (
    token    BYTEA NOT NULL CHECK (length(token) = 20),
    hour     BYTEA NOT NULL CHECK (length(hour) = 8),
    operator BYTEA NOT NULL CHECK (length(operator) = 20),
    amount   BYTEA NOT NULL CHECK (length(amount) = 16),
    PRIMARY KEY (token, hour, operator)
);

-- Buying: how executors did.
CREATE TABLE observations (
    id                  BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    operator            BYTEA NOT NULL CHECK (length(operator) = 20),
    at                  BYTEA NOT NULL CHECK (length(at) = 8),
    outcome             TEXT NOT NULL CHECK (outcome IN ('completed', 'failed', 'refused', 'overbilled')),
    first_token_micros  BIGINT,
    tokens_per_second   DOUBLE PRECISION
);
CREATE INDEX observations_of_operator ON observations (operator, id);

-- Signed transactions, stored before they are broadcast.
CREATE TABLE transactions (
    id           BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    sender       BYTEA NOT NULL CHECK (length(sender) = 20),
    nonce        BYTEA NOT NULL CHECK (length(nonce) = 8),
    hash         BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    raw          BYTEA NOT NULL,
    purpose      TEXT NOT NULL,
    replaces     BIGINT REFERENCES transactions (id),
    max_fee      BYTEA NOT NULL CHECK (length(max_fee) = 16),
    priority_fee BYTEA NOT NULL CHECK (length(priority_fee) = 16),
    gas_limit    BYTEA NOT NULL CHECK (length(gas_limit) = 8),
    deadline     BYTEA CHECK (length(deadline) = 8),
    recorded_at  BYTEA NOT NULL CHECK (length(recorded_at) = 8),
    broadcast_at BYTEA CHECK (length(broadcast_at) = 8),
    -- NULL while its fate is unknown.
    finish       TEXT,
    dropped      BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (sender, nonce, hash)
);
CREATE INDEX transactions_pending ON transactions (sender, nonce) WHERE finish IS NULL;

-- Deadlines. A row goes only with the event it came from; otherwise it is resolved.
CREATE TABLE obligations (
    id           BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    channel      BYTEA NOT NULL REFERENCES channels (id),
    requested_at BYTEA NOT NULL CHECK (length(requested_at) = 8),
    deadline     BYTEA NOT NULL CHECK (length(deadline) = 8),
    block_hash   BYTEA NOT NULL,
    position    BYTEA NOT NULL,
    resolution   TEXT,
    UNIQUE (block_hash, position)
);
CREATE INDEX obligations_open ON obligations (deadline) WHERE resolution IS NULL;
