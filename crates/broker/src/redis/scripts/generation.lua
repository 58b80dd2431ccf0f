-- The generation of the data. KEYS: generation (hash). ARGV: a map of run_id, the run id of the server that answers; and
-- newest, the newest generation known of a channel here (a channel that has moved here from another server keeps its own).
-- Answers generation.
-- If the stored run id is another one, a failover may have lost writes; if there is none, all data is lost. Then the data
-- gets a new generation, higher than any before.
local arg = cmsgpack.unpack(ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'run', 'generation')
local present, newest = tonumber(known[2] or 0), arg.newest
if known[1] == arg.run_id and present >= newest then return {'generation', known[2]} end
local time = redis.call('TIME')
local next = math.max(present + 1, newest, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('HSET', KEYS[1], 'run', arg.run_id, 'generation', string.format('%.0f', next))
return {'generation', string.format('%.0f', next)}
