DROP TABLE signatures;
DROP TABLE unbilled_requests;
