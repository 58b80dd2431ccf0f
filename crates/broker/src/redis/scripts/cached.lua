-- The cached event.
-- Answers cached: its position, the event, and its ttl, by name; or nothing.
return finish('cached', cached())
