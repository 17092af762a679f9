DROP INDEX receipts_unusable;
DROP INDEX vouchers_unusable;
DROP TABLE open_requests;
