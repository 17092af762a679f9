-- As SQLite's migration of the same number: a tower's side. Vouchers of others' channels that it defends. A channel keeps its
-- best few: one that turns out to be unusable falls back to the next.
CREATE TABLE held_vouchers (
    channel         BYTEA NOT NULL REFERENCES channels (id),
    -- What is to be settled with it.
    claim           BYTEA NOT NULL CHECK (length(claim) = 16),
    -- What it signs.
    ceiling         BYTEA NOT NULL CHECK (length(ceiling) = 16),
    signature       BYTEA NOT NULL CHECK (length(signature) = 65),
    -- Whom it was taken on for, and what was promised: the terms of the appointment.
    operator        BYTEA NOT NULL CHECK (length(operator) = 20),
    minimum_value   BYTEA NOT NULL CHECK (length(minimum_value) = 16),
    max_fee_per_gas BYTEA NOT NULL CHECK (length(max_fee_per_gas) = 16),
    taken_at        BYTEA NOT NULL CHECK (length(taken_at) = 8),
    expires_at      BYTEA NOT NULL CHECK (length(expires_at) = 8),
    unusable        TEXT,
    PRIMARY KEY (channel, claim),
    CHECK (claim <= ceiling)
);
CREATE INDEX held_vouchers_of_operator ON held_vouchers (operator, channel);
-- What a tower looks for in every round.
CREATE INDEX channels_closing ON channels (id) WHERE latest_close_requested_at IS NOT NULL AND NOT latest_finalized;

-- An executor's side: what towers have signed. Each tower's newest appointment of a channel is the proof, should the
-- tower sleep.
CREATE TABLE appointments (
    tower           BYTEA NOT NULL CHECK (length(tower) = 20),
    channel         BYTEA NOT NULL REFERENCES channels (id),
    operator        BYTEA NOT NULL CHECK (length(operator) = 20),
    claim           BYTEA NOT NULL CHECK (length(claim) = 16),
    ceiling         BYTEA NOT NULL CHECK (length(ceiling) = 16),
    minimum_value   BYTEA NOT NULL CHECK (length(minimum_value) = 16),
    max_fee_per_gas BYTEA NOT NULL CHECK (length(max_fee_per_gas) = 16),
    taken_at        BYTEA NOT NULL CHECK (length(taken_at) = 8),
    expires_at      BYTEA NOT NULL CHECK (length(expires_at) = 8),
    signature       BYTEA NOT NULL CHECK (length(signature) = 65),
    -- When the tower was found not to hold it any more.
    lost_at         BYTEA CHECK (length(lost_at) = 8),
    PRIMARY KEY (tower, channel)
);
CREATE INDEX appointments_of_channel ON appointments (channel);

-- How towers did.
CREATE TABLE towers (
    address    BYTEA NOT NULL PRIMARY KEY CHECK (length(address) = 20),
    -- The last good answer.
    heard_at   BYTEA CHECK (length(heard_at) = 8),
    -- What went wrong since.
    problem    TEXT,
    -- The last thing that an honest tower would never have said. It stays.
    fault      TEXT,
    fault_at   BYTEA CHECK (length(fault_at) = 8),
    CHECK ((fault IS NULL) = (fault_at IS NULL))
);
