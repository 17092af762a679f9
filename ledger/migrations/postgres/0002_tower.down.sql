DROP TABLE towers;
DROP TABLE appointments;
DROP INDEX channels_closing;
DROP TABLE held_vouchers;
