-- Catalogue, event log and delivery queue.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- `clock`: what the clock said at the last start; `clock_event`: the newest event then; `written`: proves that one can write.
INSERT INTO meta (name, value) VALUES ('catalogue_version', 0), ('incarnation', 0), ('clock', 0), ('clock_event', 0), ('written', 0);

-- A record that changes takes the new catalogue version with it; one that goes is kept as a mark that it went.
CREATE TABLE hook (
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    description TEXT NOT NULL,
    fields TEXT,
    schema TEXT,
    defaults TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX hook_version ON hook (version);

-- What a hook let out at each of its versions: a retry sends what the first attempt sent.
CREATE TABLE hook_fields (
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    fields TEXT,
    PRIMARY KEY (app, name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE listener (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- 1: gone, and its deliveries are still to be canceled; 2: gone altogether.
    deleted INTEGER NOT NULL DEFAULT 0,
    spec TEXT NOT NULL,
    sealed BLOB NOT NULL,
    disabled_reason TEXT,
    disabled_at INTEGER,
    -- 1: it was disabled by its deliveries, and nobody has been told yet.
    unannounced INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (app, id)
) STRICT;
CREATE INDEX listener_version ON listener (version);
CREATE INDEX listener_orphans ON listener (no) WHERE deleted = 1;
CREATE INDEX listener_unannounced ON listener (no) WHERE unannounced = 1;

-- Destinations that have done nothing but fail, and since when (wall time).
CREATE TABLE failing (
    destination INTEGER NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT;

-- The upper bits of `no` are the Unix millisecond of storing, so order and ranges of time need no further index.
CREATE TABLE event (
    no INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    channels TEXT,
    content_type TEXT,
    time INTEGER NOT NULL,
    op TEXT,
    key TEXT,
    except_session TEXT,
    hook_version INTEGER,
    received_at INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    digest BLOB NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (app, id)
) STRICT;
CREATE INDEX event_app ON event (app);
CREATE INDEX event_name ON event (app, name);

CREATE TABLE event_channel (
    app TEXT NOT NULL,
    channel TEXT NOT NULL,
    no INTEGER NOT NULL,
    PRIMARY KEY (app, channel, no)
) STRICT, WITHOUT ROWID;

-- One row stands for the deliveries of an event that are still to be written; `cursor` counts those that are.
CREATE TABLE fanout (
    event INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    key TEXT,
    not_before INTEGER,
    cursor INTEGER NOT NULL DEFAULT 0,
    destinations BLOB NOT NULL
) STRICT;
CREATE INDEX fanout_app ON fanout (app);

-- One row stands for the deliveries of an event that were taken up as it was published, in no lane, and that have not ended.
CREATE TABLE lot (
    event INTEGER PRIMARY KEY,
    lease INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    destinations BLOB NOT NULL
) STRICT;

-- Open deliveries but those in lots. Scheduled: `due` is set. Leased: `lease` is set. Neither: it waits behind an older one of its lane.
CREATE TABLE delivery (
    app TEXT NOT NULL,
    event INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    lane TEXT,
    attempts INTEGER NOT NULL,
    -- Attempts that do not count against the schedule: those made before a retry by hand.
    forgiven INTEGER NOT NULL,
    due INTEGER,
    not_before INTEGER,
    lease INTEGER,
    lease_until INTEGER,
    last_error TEXT,
    PRIMARY KEY (app, event, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_destination ON delivery (destination, event);
CREATE INDEX delivery_due ON delivery (destination, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_lane ON delivery (destination, lane, event) WHERE lane IS NOT NULL;

-- Destinations with scheduled deliveries, and when the first of them is due at the earliest.
CREATE TABLE queue (
    destination INTEGER PRIMARY KEY,
    next_due INTEGER NOT NULL
) STRICT;
CREATE INDEX queue_due ON queue (next_due);

CREATE TABLE closed (
    app TEXT NOT NULL,
    event INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    closed_at INTEGER NOT NULL,
    last_error TEXT,
    -- Set when the first attempt delivered it: then this row tells that attempt too, and `attempt` has none.
    started_at INTEGER,
    duration_us INTEGER,
    status INTEGER,
    remote TEXT,
    response_body BLOB,
    PRIMARY KEY (app, event, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX closed_destination ON closed (destination, event);
CREATE INDEX closed_failed ON closed (app, state, event, destination) WHERE state <> 'delivered';
CREATE INDEX closed_failed_destination ON closed (destination, state, event) WHERE state <> 'delivered';

CREATE TABLE attempt (
    event INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    n INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    error TEXT,
    remote TEXT,
    next_at INTEGER,
    response_headers TEXT,
    response_body BLOB NOT NULL,
    PRIMARY KEY (event, destination, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    app TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    event_id TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency (created_at);
