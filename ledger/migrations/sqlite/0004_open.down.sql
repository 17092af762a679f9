DROP INDEX channels_to_claim;
DROP INDEX receipts_unusable;
DROP INDEX vouchers_unusable;
DROP TABLE open_requests;
