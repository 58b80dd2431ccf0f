-- The cached event: its position, itself, and for how long it is kept; or nothing.
return finish(cached())
