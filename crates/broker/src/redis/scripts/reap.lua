-- Takes sessions of a node out that is gone, some at a time. Answers left: how many are left.
local seats = redis.call('HSCAN', here, 0, 'COUNT', 200)[2]
for i = 1, #seats, 2 do take_out(seats[i]) end
return finish('left', redis.call('HLEN', here))
