-- Whom a hook's fields hold for. NULL: it was stored before there was a choice, when declared fields held for webhooks only.
ALTER TABLE hook ADD COLUMN fields_for TEXT;
