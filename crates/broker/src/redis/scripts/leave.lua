-- A session leaves. ARGV: session_ref.
-- Answers at, the number of the message before the leave, and count_pending.
local at = remove_session(arg.session_ref) or last_message()
return finish('at', at, 'count_pending', m.co or '0')
