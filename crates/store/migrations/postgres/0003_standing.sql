-- How channels (member = '') and users in them stand, as it was told last.
CREATE TABLE standing (
    app TEXT NOT NULL,
    channel TEXT NOT NULL,
    member TEXT NOT NULL,
    present BOOLEAN NOT NULL,
    number BIGINT NOT NULL,
    -- The id of the event that tells it.
    event TEXT NOT NULL,
    told BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (app, channel, member)
);
CREATE INDEX standing_open ON standing (app, channel, member) WHERE present OR NOT told;
CREATE INDEX standing_gone ON standing (changed_at) WHERE NOT present AND told;
