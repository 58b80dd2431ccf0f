-- The generation of the data. KEYS: generation (hash). ARGV: the run_id of the server that answers, the newest generation that
-- a channel here is known to be of: one that has moved here from another server may be of a newer one than ours.
-- Another server than the one that the data knows may have lost writes, and one that knows none has lost everything: the
-- generation is then a new one, higher than any before.
local known = redis.call('HMGET', KEYS[1], 'run', 'generation')
local present, newest = tonumber(known[2] or 0), tonumber(ARGV[2])
if known[1] == ARGV[1] and present >= newest then return known[2] end
local time = redis.call('TIME')
local next = math.max(present + 1, newest, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'generation', string.format('%.0f', next))
return string.format('%.0f', next)
