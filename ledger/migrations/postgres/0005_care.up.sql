-- When this copy of a store was made. A store in use has none: whoever opens one with it opens a backup that was put back.
ALTER TABLE store ADD COLUMN copied_at BYTEA CHECK (length(copied_at) = 8);

-- The file of the archive that holds the account's receipts, from the first to the head. Nothing is recorded on the
-- account after that.
ALTER TABLE accounts ADD COLUMN archive TEXT;

-- Requests are let go of one by one, and must not be looked for among all that was ever withdrawn.
CREATE INDEX withdrawn_receipts_of_request ON withdrawn_receipts (request);
