-- One channel: whether there is anything, subscriptions, users, epoch ('' for none), offset.
local is_there = num('s') > 0 or m.e or m.cx
return finish(is_there and 1 or 0, num('s'), user_count(), m.e or '', num('o'))
