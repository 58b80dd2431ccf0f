-- Apps that are not in the config.
CREATE TABLE app (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX app_version ON app (version);

-- What means one app only: its key, API keys and hosts, as digests.
CREATE TABLE app_name (
    name TEXT NOT NULL PRIMARY KEY,
    app TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX app_name_app ON app_name (app);
