-- A node's heartbeat. KEYS: nodes (sorted set: when each lease ends), generation (hash). ARGV: node, lease (ms).
-- Answers the server's time (ms), whether the lease was held until now, the generation ('0' where it is lost), and nodes
-- whose leases are over.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local until_when = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now), 'LIMIT', 0, 16)
local generation = redis.call('HGET', KEYS[2], 'generation') or '0'
return {string.format('%.0f', now), until_when >= now and 1 or 0, generation, over}
