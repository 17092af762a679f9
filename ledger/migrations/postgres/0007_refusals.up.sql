-- Tables, columns and widths are those of SQLite's migration of the same number, and so are the reasons for them.

CREATE TABLE tower_refusals (
    tower   BYTEA NOT NULL CHECK (length(tower) = 20),
    channel BYTEA NOT NULL REFERENCES channels (id),
    claim   BYTEA NOT NULL CHECK (length(claim) = 16),
    reason  TEXT NOT NULL,
    since   BYTEA NOT NULL CHECK (length(since) = 8),
    PRIMARY KEY (tower, channel)
);
