-- How channels (member = '') and users in them stand, as it was told last.
CREATE TABLE standing (
    app TEXT NOT NULL,
    channel TEXT NOT NULL,
    member TEXT NOT NULL,
    present INTEGER NOT NULL,
    number INTEGER NOT NULL,
    -- The id of the event that tells it.
    event TEXT NOT NULL,
    told INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (app, channel, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX standing_open ON standing (app, channel, member) WHERE present = 1 OR told = 0;
CREATE INDEX standing_gone ON standing (changed_at) WHERE present = 0 AND told = 1;
