-- Removes sessions of a dead node, some with each call. Answers left: how many are left.
local seats = redis.call('HSCAN', here, 0, 'COUNT', 200)[2]
for i = 1, #seats, 2 do remove_session(seats[i]) end
return finish('left', redis.call('HLEN', here))
