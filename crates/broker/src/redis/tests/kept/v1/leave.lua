-- Takes a session out. ARGV: place. Answers where in the channel's messages that is.
local at = take_out(ARGV[6]) or last_message()
return finish(at, m.co or '0')
