-- Takes a session out. ARGV: session_ref.
-- Answers at, where in the channel's messages that is, and count_pending.
local at = take_out(arg.session_ref) or last_message()
return finish('at', at, 'count_pending', m.co or '0')
