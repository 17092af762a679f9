DROP TABLE unbilled_requests;
