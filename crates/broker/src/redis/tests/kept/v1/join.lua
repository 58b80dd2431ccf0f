-- Lets a session in. ARGV: place, session, user ('' for none), what it shows, presence, join_leave, subscription_count,
-- max_members, history_size, history_ttl, whether events are cached, what of the past ('', 'last' or 'position'), how many
-- or the epoch, the offset.
-- Answers 'full', or 'in' and the welcome; then where in the channel's messages that is.
local place, session, user, shown = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local presence, join_leave, count, limit = ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13])
local size, ttl, caches, wanted = tonumber(ARGV[14]), tonumber(ARGV[15]), ARGV[16] == '1', ARGV[17]
local is_new = redis.call('HEXISTS', here, place) == 0
if presence ~= '1' and join_leave ~= '1' or not is_new then user = '' end
if user ~= '' and presence == '1' and redis.call('HLEN', users) >= limit
  and redis.call('HEXISTS', users, user) == 0 then
  return finish('full', last_message())
end
local at = last_message()
if size == 0 then forget_history() end
if not caches then drop_cache() end
adopt(presence, join_leave, count)
if size > 0 then begin_history(ttl) end
-- Nobody must hear of the coming before the welcome says who is there, itself among them.
local first
if is_new then
  first = user ~= '' and redis.call('HEXISTS', users, user) == 0 and '1' or '0'
  put_in(place, session, user, shown, false)
end
local recovery, entries = 'n', {}
if wanted == 'position' then
  recovery, entries = since(ARGV[18], tonumber(ARGV[19]))
elseif wanted == 'last' and tonumber(ARGV[18]) > 0 and m.e and first_kept() then
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', ARGV[18])
  for i = #newest, 1, -1 do entries[#entries + 1] = newest[i] end
end
local all = all_members()
local here_now, welcome_cached = num('s'), cached()
if caches and not welcome_cached and m.cm ~= '1' then
  set('cm', '1')
  note('m', '')
end
if is_new then
  if user ~= '' and m.j == '1' then tell('+', first .. ' ' .. session, shown) end
  count_has_changed()
end
return finish('in', at, m.e or '', num('o'), recovery, entries, all, here_now, welcome_cached, m.co or '0')
