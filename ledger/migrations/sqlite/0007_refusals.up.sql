-- An executor's side: channels that a tower does not take on. A row goes when the tower takes its channel, and when the
-- channel is over.
CREATE TABLE tower_refusals (
    tower   BLOB NOT NULL CHECK (length(tower) = 20),
    channel BLOB NOT NULL REFERENCES channels (id),
    -- What was to be claimed.
    claim   BLOB NOT NULL CHECK (length(claim) = 16),
    reason  TEXT NOT NULL,
    -- The first of the refusals that nothing came between.
    since   BLOB NOT NULL CHECK (length(since) = 8),
    PRIMARY KEY (tower, channel)
) STRICT, WITHOUT ROWID;
