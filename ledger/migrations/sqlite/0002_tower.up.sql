-- A tower's side: vouchers of others' channels that it defends. A channel keeps its best few: one that turns out to be
-- unusable falls back to the next.
CREATE TABLE held_vouchers (
    channel         BLOB NOT NULL REFERENCES channels (id),
    -- What is to be settled with it.
    claim           BLOB NOT NULL CHECK (length(claim) = 16),
    -- What it signs.
    ceiling         BLOB NOT NULL CHECK (length(ceiling) = 16),
    signature       BLOB NOT NULL CHECK (length(signature) = 65),
    -- Whom it was taken on for, and what was promised: the terms of the appointment.
    operator        BLOB NOT NULL CHECK (length(operator) = 20),
    minimum_value   BLOB NOT NULL CHECK (length(minimum_value) = 16),
    max_fee_per_gas BLOB NOT NULL CHECK (length(max_fee_per_gas) = 16),
    taken_at        BLOB NOT NULL CHECK (length(taken_at) = 8),
    expires_at      BLOB NOT NULL CHECK (length(expires_at) = 8),
    unusable        TEXT,
    PRIMARY KEY (channel, claim),
    CHECK (claim <= ceiling)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_vouchers_of_operator ON held_vouchers (operator, channel);
-- What a tower looks for in every round.
CREATE INDEX channels_closing ON channels (id) WHERE latest_close_requested_at IS NOT NULL AND NOT latest_finalized;

-- An executor's side: what towers have signed. Each tower's newest appointment of a channel is the proof, should the
-- tower sleep.
CREATE TABLE appointments (
    tower           BLOB NOT NULL CHECK (length(tower) = 20),
    channel         BLOB NOT NULL REFERENCES channels (id),
    operator        BLOB NOT NULL CHECK (length(operator) = 20),
    claim           BLOB NOT NULL CHECK (length(claim) = 16),
    ceiling         BLOB NOT NULL CHECK (length(ceiling) = 16),
    minimum_value   BLOB NOT NULL CHECK (length(minimum_value) = 16),
    max_fee_per_gas BLOB NOT NULL CHECK (length(max_fee_per_gas) = 16),
    taken_at        BLOB NOT NULL CHECK (length(taken_at) = 8),
    expires_at      BLOB NOT NULL CHECK (length(expires_at) = 8),
    signature       BLOB NOT NULL CHECK (length(signature) = 65),
    -- When the tower was found not to hold it any more.
    lost_at         BLOB CHECK (length(lost_at) = 8),
    PRIMARY KEY (tower, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX appointments_of_channel ON appointments (channel);

-- How towers did.
CREATE TABLE towers (
    address    BLOB NOT NULL PRIMARY KEY CHECK (length(address) = 20),
    -- The last good answer.
    heard_at   BLOB CHECK (length(heard_at) = 8),
    -- What went wrong since.
    problem    TEXT,
    -- The last thing that an honest tower would never have said. It stays.
    fault      TEXT,
    fault_at   BLOB CHECK (length(fault_at) = 8),
    CHECK ((fault IS NULL) = (fault_at IS NULL))
) STRICT, WITHOUT ROWID;
