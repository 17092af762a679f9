DROP TABLE tower_refusals;
