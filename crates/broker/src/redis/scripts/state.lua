-- The state of one channel. Answers exists, whether it has sessions, history or cached event; subscriptions, users, epoch
-- ('' for none), offset.
local exists = (num('s') > 0 or m.e or m.cx) and 1 or 0
return finish('exists', exists, 'subscriptions', num('s'), 'users', user_count(), 'epoch', m.e or '', 'offset', num('o'))
