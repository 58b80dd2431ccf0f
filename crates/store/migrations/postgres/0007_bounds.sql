-- What is gone keeps no contents, and is forgotten when everything that names it is.

-- Since when a hook has other fields than these, or is gone.
ALTER TABLE hook_fields ADD COLUMN replaced_at BIGINT;
UPDATE hook_fields f SET replaced_at = coalesce((SELECT h.updated_at FROM hook h WHERE h.app = f.app AND h.name = f.name), 0)
    WHERE NOT EXISTS (SELECT 1 FROM hook h WHERE h.app = f.app AND h.name = f.name AND h.version = f.version AND h.deleted = 0);
CREATE INDEX hook_fields_replaced ON hook_fields (replaced_at) WHERE replaced_at IS NOT NULL;

UPDATE hook SET description = '', fields = NULL, schema = NULL, defaults = '{}' WHERE deleted = 1;
CREATE INDEX hook_gone ON hook (updated_at) WHERE deleted = 1;

UPDATE listener SET spec = '{"url":"about:blank","description":"","hooks":[],"match":{},"rate":null,"concurrency":null,"order":"none","owner":null}'
    WHERE deleted <> 0;
CREATE INDEX listener_gone ON listener (updated_at) WHERE deleted = 2;

CREATE INDEX app_gone ON app (updated_at) WHERE deleted = 1;

-- How much there is. Triggers keep the numbers, so that nothing has to be counted to say them: each is the sum of a column. A
-- transaction changes only the row of its own server process, so none waits for another. Bytes are what rows hold, with an
-- estimate for what the server adds.
CREATE TABLE tally (
    backend BIGINT PRIMARY KEY,
    deliveries BIGINT NOT NULL,
    fanouts BIGINT NOT NULL,
    undelivered BIGINT NOT NULL,
    bytes BIGINT NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE FUNCTION tidings_count(deliveries BIGINT, fanouts BIGINT, undelivered BIGINT, bytes BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    IF deliveries <> 0 OR fanouts <> 0 OR undelivered <> 0 OR bytes <> 0 THEN
        INSERT INTO tally AS t VALUES (pg_backend_pid(), deliveries, fanouts, undelivered, bytes)
        ON CONFLICT (backend) DO UPDATE SET deliveries = t.deliveries + excluded.deliveries, fanouts = t.fanouts + excluded.fanouts,
            undelivered = t.undelivered + excluded.undelivered, bytes = t.bytes + excluded.bytes;
    END IF;
END $$;

-- A set of destinations is a sequence of numbers, each of which ends with a byte below 128.
CREATE FUNCTION tidings_destinations(encoded BYTEA) RETURNS BIGINT IMMUTABLE LANGUAGE sql AS $$
    SELECT count(*) FROM generate_series(0, octet_length(encoded) - 1) AS s (at) WHERE get_byte(encoded, at) < 128
$$;

CREATE FUNCTION tidings_count_event() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM tidings_count(0, 0, 0, (SELECT coalesce(sum(400 + octet_length(data) + 3 * coalesce(octet_length(channels), 0)), 0) FROM new_rows)::bigint);
    ELSE
        PERFORM tidings_count(0, 0, 0, (SELECT coalesce(-sum(400 + octet_length(data) + 3 * coalesce(octet_length(channels), 0)), 0) FROM old_rows)::bigint);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tidings_count_new AFTER INSERT ON event REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_event();
CREATE TRIGGER tidings_count_old AFTER DELETE ON event REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_event();

CREATE FUNCTION tidings_count_delivery() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM tidings_count(count(*), 0, 0, count(*) * 250) FROM new_rows;
    ELSE
        PERFORM tidings_count(-count(*), 0, 0, count(*) * -250) FROM old_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tidings_count_new AFTER INSERT ON delivery REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_delivery();
CREATE TRIGGER tidings_count_old AFTER DELETE ON delivery REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_delivery();

CREATE FUNCTION tidings_count_lot() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        PERFORM tidings_count(coalesce(sum(tidings_destinations(destinations)), 0)::bigint, 0, 0, 0) FROM new_rows;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM tidings_count(coalesce(-sum(tidings_destinations(destinations)), 0)::bigint, 0, 0, 0) FROM old_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tidings_count_new AFTER INSERT ON lot REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_lot();
CREATE TRIGGER tidings_count_changed AFTER UPDATE ON lot REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_lot();
CREATE TRIGGER tidings_count_old AFTER DELETE ON lot REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_lot();

CREATE FUNCTION tidings_count_fanout() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM tidings_count(0, count(*), 0, 0) FROM new_rows;
    ELSE
        PERFORM tidings_count(0, -count(*), 0, 0) FROM old_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tidings_count_new AFTER INSERT ON fanout REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_fanout();
CREATE TRIGGER tidings_count_old AFTER DELETE ON fanout REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_fanout();

CREATE FUNCTION tidings_count_closed() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        PERFORM tidings_count(0, 0, count(*) FILTER (WHERE state = 'undelivered'),
            coalesce(sum(300 + coalesce(octet_length(response_body), 0)), 0)::bigint) FROM new_rows;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM tidings_count(0, 0, -count(*) FILTER (WHERE state = 'undelivered'),
            coalesce(-sum(300 + coalesce(octet_length(response_body), 0)), 0)::bigint) FROM old_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tidings_count_new AFTER INSERT ON closed REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_closed();
CREATE TRIGGER tidings_count_changed AFTER UPDATE ON closed REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_closed();
CREATE TRIGGER tidings_count_old AFTER DELETE ON closed REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_closed();

CREATE FUNCTION tidings_count_attempt() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        PERFORM tidings_count(0, 0, 0, coalesce(sum(200 + octet_length(response_body) + coalesce(octet_length(response_headers), 0)), 0)::bigint) FROM new_rows;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM tidings_count(0, 0, 0, coalesce(-sum(200 + octet_length(response_body) + coalesce(octet_length(response_headers), 0)), 0)::bigint) FROM old_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tidings_count_new AFTER INSERT ON attempt REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_attempt();
CREATE TRIGGER tidings_count_changed AFTER UPDATE ON attempt REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_attempt();
CREATE TRIGGER tidings_count_old AFTER DELETE ON attempt REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tidings_count_attempt();

-- What there is already. The triggers above keep others from writing until this is committed.
INSERT INTO tally SELECT 0,
    (SELECT count(*) FROM delivery) + (SELECT coalesce(sum(tidings_destinations(destinations)), 0)::bigint FROM lot),
    (SELECT count(*) FROM fanout),
    (SELECT count(*) FROM closed WHERE state = 'undelivered' AND state <> 'delivered'),
    (SELECT coalesce(sum(400 + octet_length(data) + 3 * coalesce(octet_length(channels), 0)), 0)::bigint FROM event)
        + (SELECT count(*) * 250 FROM delivery)
        + (SELECT coalesce(sum(300 + coalesce(octet_length(response_body), 0)), 0)::bigint FROM closed)
        + (SELECT coalesce(sum(200 + octet_length(response_body) + coalesce(octet_length(response_headers), 0)), 0)::bigint FROM attempt);
