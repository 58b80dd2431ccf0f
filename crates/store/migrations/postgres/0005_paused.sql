-- Destinations that asked one node for a pause, for the others to know.
CREATE TABLE paused (
    destination BIGINT PRIMARY KEY,
    until BIGINT NOT NULL
);
