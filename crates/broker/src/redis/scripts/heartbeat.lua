-- A node's heartbeat. KEYS: nodes (sorted set: when each lease ends), generation (hash). ARGV: a map of node and lease (ms).
-- Answers now, the server's time (ms); held, whether the node's lease had not ended yet; generation ('0' if it is lost); and
-- over, nodes whose leases have ended.
local arg = cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local until_when = tonumber(redis.call('ZSCORE', KEYS[1], arg.node) or 0)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + arg.lease), arg.node)
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now), 'LIMIT', 0, 16)
local generation = redis.call('HGET', KEYS[2], 'generation') or '0'
local held = until_when >= now and 1 or 0
return {'now', string.format('%.0f', now), 'held', held, 'generation', generation, 'over', over}
