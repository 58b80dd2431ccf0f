-- What is gone keeps no contents, and is forgotten when everything that names it is.

-- Since when a hook has other fields than these, or is gone.
ALTER TABLE hook_fields ADD COLUMN replaced_at INTEGER;
UPDATE hook_fields SET replaced_at = coalesce((SELECT h.updated_at FROM hook h WHERE h.app = hook_fields.app AND h.name = hook_fields.name), 0)
    WHERE NOT EXISTS (SELECT 1 FROM hook h WHERE h.app = hook_fields.app AND h.name = hook_fields.name
        AND h.version = hook_fields.version AND h.deleted = 0);
CREATE INDEX hook_fields_replaced ON hook_fields (replaced_at) WHERE replaced_at IS NOT NULL;

UPDATE hook SET description = '', fields = NULL, schema = NULL, defaults = '{}' WHERE deleted = 1;
CREATE INDEX hook_gone ON hook (updated_at) WHERE deleted = 1;

UPDATE listener SET spec = '{"url":"about:blank","description":"","hooks":[],"match":{},"rate":null,"concurrency":null,"order":"none","owner":null}'
    WHERE deleted <> 0;
CREATE INDEX listener_gone ON listener (updated_at) WHERE deleted = 2;

CREATE INDEX app_gone ON app (updated_at) WHERE deleted = 1;

-- What is written to see whether the disk has room again.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    filler BLOB NOT NULL
) STRICT;
