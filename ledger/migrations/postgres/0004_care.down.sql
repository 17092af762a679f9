ALTER TABLE accounts DROP COLUMN archive;
ALTER TABLE store DROP COLUMN copied_at;
