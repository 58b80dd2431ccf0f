-- Publishes an event. ARGV: by_client, history_size, history_ttl, cache_ttl (optional: not cached); after the map, the
-- event's bytes, which are stored as they are.
-- Answers subscriptions and users.
local by_client, size, ttl = arg.by_client, arg.history_size, arg.history_ttl
local cache_ttl, event = arg.cache_ttl, ARGV[2]
local position = '- 0'
if not by_client then
  if size == 0 then drop_history() end
  if not cache_ttl then drop_cache() end
  if size > 0 then
    begin_history(ttl)
    set('o', num('o') + 1)
    set('t', ttl)
    set('x', math.max(num('x'), now + ttl))
    position = m.e .. ' ' .. m.o
    redis.call('XADD', log, 'MAXLEN', size, m.o .. '-0', 'x', int(now + ttl), 'd', event)
  end
  if cache_ttl then
    set('cx', now + cache_ttl)
    set('cp', position)
    set('cm', nil)
    redis.call('SET', cache, event, 'PX', int(cache_ttl + SLACK))
  end
  if num('s') == 0 then vacated() end
end
publish('p', position, event)
return finish('subscriptions', num('s'), 'users', user_count())
