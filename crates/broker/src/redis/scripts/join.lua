-- A session joins. ARGV: session_ref, session, user ('' for none), shown, presence, join_leave, subscription_count,
-- max_members, history_size, history_ttl, caches (whether events are cached); to recover: last, how many of the last
-- events (optional), or epoch and offset, the position after which all events are wanted (optional).
-- Answers outcome: full, or in and the welcome; and at, the number of the message before the join.
local session_ref, session, user, shown = arg.session_ref, arg.session, arg.user, arg.shown
local presence, join_leave, count = arg.presence, arg.join_leave, arg.subscription_count
local size, caches, last = arg.history_size, arg.caches, arg.last or 0
local is_new = redis.call('HEXISTS', here, session_ref) == 0
if not presence and not join_leave or not is_new then user = '' end
if user ~= '' and presence and redis.call('HLEN', users) >= arg.max_members
  and redis.call('HEXISTS', users, user) == 0 then
  return finish('outcome', 'full', 'at', last_message())
end
local at = last_message()
if size == 0 then drop_history() end
if not caches then drop_cache() end
apply_options(presence, join_leave, count)
if size > 0 then begin_history(arg.history_ttl) end
-- The join message is published at the end, so that the welcome, which lists this session, precedes it.
local first
if is_new then
  first = user ~= '' and redis.call('HEXISTS', users, user) == 0 and '1' or '0'
  add_session(session_ref, session, user, shown, false)
end
local recovery, entries = 'n', {}
if arg.epoch then
  recovery, entries = since(arg.epoch, arg.offset)
elseif last > 0 and m.e and first_kept() then
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', last)
  for i = #newest, 1, -1 do entries[#entries + 1] = newest[i] end
end
local all = all_members()
local here_now, welcome_cached = num('s'), cached()
if caches and not welcome_cached and m.cm ~= '1' then
  set('cm', '1')
  record('m', '')
end
if is_new then
  if user ~= '' and m.j == '1' then publish('+', first .. ' ' .. session, shown) end
  count_changed()
end
return finish('outcome', 'in', 'at', at, 'epoch', m.e or '', 'offset', num('o'), 'recovery', recovery,
  'entries', entries, 'members', all, 'subscriptions', here_now, 'cached', welcome_cached, 'count_pending', m.co or '0')
