-- Who shares this database: a row for each node that runs, which it keeps fresh. One that is not fresh is of a node that is gone.
CREATE TABLE node (
    name TEXT PRIMARY KEY,
    incarnation BIGINT NOT NULL,
    broker TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
