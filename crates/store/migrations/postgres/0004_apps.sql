-- Apps that are not in the config.
CREATE TABLE app (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    deleted BIGINT NOT NULL DEFAULT 0,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX app_version ON app (version);

-- What means one app only: its key, API keys and hosts, as digests.
CREATE TABLE app_name (
    name TEXT PRIMARY KEY,
    app TEXT NOT NULL
);
CREATE INDEX app_name_app ON app_name (app);
