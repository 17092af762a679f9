DROP INDEX withdrawn_receipts_of_request;
ALTER TABLE accounts DROP COLUMN archive;
ALTER TABLE store DROP COLUMN copied_at;
