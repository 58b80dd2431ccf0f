-- Makes the node's sessions in the channel exactly those named, after the node could not be sure. ARGV: presence,
-- join_leave, subscription_count, history_size, history_ttl; tells, whether members that were missing are told; epoch and
-- offset that all of them have heard (optional); sessions, a map of session_ref, session, user and shown for each.
-- Answers at, where in the channel's messages that is; epoch, offset, recovery and entries, what was missed; count_pending.
local sessions, is_named = arg.sessions, {}
for _, one in ipairs(sessions) do is_named[one.session_ref] = true end
if #sessions > 0 then adopt(arg.presence, arg.join_leave, arg.subscription_count) end
for _, session_ref in ipairs(redis.call('HKEYS', here)) do
  if not is_named[session_ref] then take_out(session_ref) end
end
local came = false
for _, one in ipairs(sessions) do
  local user = (m.p == '1' or m.j == '1') and one.user or ''
  if redis.call('HEXISTS', here, one.session_ref) == 0 then
    put_in(one.session_ref, one.session, user, one.shown, arg.tells and m.j == '1')
    came = true
  end
end
if came then count_has_changed() end
if #sessions > 0 and (arg.history_size or 0) > 0 then begin_history(arg.history_ttl) end
local recovery, entries = 'n', {}
if arg.epoch then recovery, entries = since(arg.epoch, arg.offset) end
return finish('at', last_message(), 'epoch', m.e or '', 'offset', num('o'), 'recovery', recovery, 'entries', entries,
  'count_pending', m.co or '0')
