-- Makes the node's sessions in the channel exactly those in the arguments, after a reconnect or an unknown outcome. ARGV:
-- presence, join_leave, subscription_count, history_size, history_ttl; tells, whether join messages are published for
-- members that were missing; epoch and offset that all sessions have received (optional); sessions, for each a map of
-- session_ref, session, user and shown.
-- Answers at, the number of the last message; epoch, offset, recovery and entries, the missed events; count_pending.
local sessions, is_listed = arg.sessions, {}
for _, one in ipairs(sessions) do is_listed[one.session_ref] = true end
if #sessions > 0 then apply_options(arg.presence, arg.join_leave, arg.subscription_count) end
for _, session_ref in ipairs(redis.call('HKEYS', here)) do
  if not is_listed[session_ref] then remove_session(session_ref) end
end
local came = false
for _, one in ipairs(sessions) do
  local user = (m.p == '1' or m.j == '1') and one.user or ''
  if redis.call('HEXISTS', here, one.session_ref) == 0 then
    add_session(one.session_ref, one.session, user, one.shown, arg.tells and m.j == '1')
    came = true
  end
end
if came then count_changed() end
if #sessions > 0 and (arg.history_size or 0) > 0 then begin_history(arg.history_ttl) end
local recovery, entries = 'n', {}
if arg.epoch then recovery, entries = since(arg.epoch, arg.offset) end
return finish('at', last_message(), 'epoch', m.e or '', 'offset', num('o'), 'recovery', recovery, 'entries', entries,
  'count_pending', m.co or '0')
