-- One channel: what every script begins with.
--
-- KEYS: meta (hash), log (stream), cache (string), users (hash), here (hash of one node's sessions).
-- ARGV: generation, now (ms), the channel's voice (where nodes subscribe), PUBLISH or SPUBLISH, 16 random hex digits and after
-- them a letter for each kind of transition that is to be noted: o occupied, v vacated, a member added, r member removed,
-- c number of subscriptions, m cache miss.
--
-- meta: n number of the last message; s subscriptions; p j c what sessions joined with (presence, join_leave, count);
-- ct, co when their number was told last, and whether that is owed; g e o generation, epoch and offset of the history;
-- b the epoch and the offset that it began with; t its ttl; x when its last entry is too old; f when a position that nobody is there for is forgotten; cx cp when the
-- cached event is too old, and its position; cm whether somebody has found no cached event since there was one; tn the
-- number of the last transition.
--
-- Every answer ends with the transitions that were noted: kind, number, and what it is about, with spaces between.
local meta, log, cache, users, here = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local generation, now, voice, say = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local fresh, wanted = string.sub(ARGV[5], 1, 16), string.sub(ARGV[5], 17)
local MANY, COUNT_EVERY, SLACK = 100, 5000, 60000

local m, changed, noted = {}, {}, {}
do
  local flat = redis.call('HGETALL', meta)
  for i = 1, #flat, 2 do m[flat[i]] = flat[i + 1] end
end

-- A number as text without an exponent.
local function int(x) return string.format('%.0f', x) end
local function num(field) return tonumber(m[field] or 0) end
local function set(field, value)
  if type(value) == 'number' then value = int(value) end
  if m[field] ~= value then
    m[field] = value
    changed[field] = true
  end
end

local function forget_history()
  if m.e then
    for _, field in ipairs({'g', 'e', 'o', 'b', 't', 'x', 'f'}) do set(field, nil) end
    redis.call('DEL', log)
  end
end

local function drop_cache()
  if m.cx then
    set('cx', nil)
    set('cp', nil)
    redis.call('DEL', cache)
  end
end

-- Drops what is too old from the log's front; the offset of the first entry that is left.
local function first_kept()
  while true do
    local front = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    if not front then return nil end
    if tonumber(front[2][2]) > now then return tonumber(string.match(front[1], '^%d+')) end
    redis.call('XDEL', log, front[1])
  end
end

-- The life of a history begins with its epoch, which begins with the generation that it was made in.
local function begin_epoch()
  set('g', generation)
  set('e', string.format('%x-', generation) .. fresh)
  set('b', m.e .. ' ' .. int(num('o')))
end

local function begin_history(ttl)
  if not m.e then
    begin_epoch()
    set('o', 0)
    set('t', ttl)
    set('f', 0)
    redis.call('DEL', log)
  end
end

-- Nobody is there: the position is kept for as long as somebody who was away may come back, and as long again.
local function left_alone()
  if m.e then set('f', now + 2 * num('t')) end
end

-- The last number of a row. The first of a channel's life is higher than any of an earlier life.
local function last_number(field)
  if not m[field] then
    local time = redis.call('TIME')
    set(field, tonumber(time[1]) * 1000000 + tonumber(time[2]))
  end
  return num(field)
end

-- Messages are numbered without a gap.
local function last_message() return last_number('n') end

-- Notes a transition, if it is wanted.
local function note(kind, about)
  if not string.find(wanted, kind, 1, true) then return end
  set('tn', last_number('tn') + 1)
  noted[#noted + 1] = kind .. ' ' .. m.tn .. ' ' .. about
end

-- Tells every node that is subscribed to the channel; nobody is, where no session is in it.
local function tell(kind, head, body)
  if num('s') == 0 then return end
  set('n', last_message() + 1)
  redis.call(say, voice, kind .. ' ' .. m.n .. ' ' .. head .. '\n' .. body)
end

local function tell_count()
  local s = num('s')
  if m.c ~= '1' or m.co ~= '1' or s == 0 then return end
  if s > MANY and m.ct and now - num('ct') < COUNT_EVERY then return end
  set('ct', now)
  set('co', nil)
  tell('#', int(s), '')
  note('c', int(s))
end

local function count_has_changed()
  if m.c == '1' then
    set('co', '1')
    tell_count()
  end
end

local function user_count() return m.p == '1' and redis.call('HLEN', users) or 0 end

-- What each user's first session shows.
local function all_members()
  local all = m.p == '1' and redis.call('HVALS', users) or {}
  for i, user in ipairs(all) do all[i] = cmsgpack.unpack(user)[2] end
  return all
end

-- Takes a session out, if it is there: where in the channel's messages that is, or nil.
local function take_out(place)
  local seat = redis.call('HGET', here, place)
  if not seat then return nil end
  local at = last_message()
  redis.call('HDEL', here, place)
  set('s', math.max(num('s') - 1, 0))
  local session, user, shown = unpack(cmsgpack.unpack(seat))
  if user ~= '' then
    local count, first = unpack(cmsgpack.unpack(redis.call('HGET', users, user) or cmsgpack.pack({1, shown})))
    local last = '0'
    if count > 1 then
      redis.call('HSET', users, user, cmsgpack.pack({count - 1, first}))
    else
      redis.call('HDEL', users, user)
      last = '1'
      if m.p == '1' then note('r', user) end
    end
    if m.j == '1' then tell('-', last .. ' ' .. session, shown) end
  end
  count_has_changed()
  if num('s') == 0 then
    left_alone()
    note('v', '')
  end
  return at
end

-- Puts a session in that isn't there; the member is told if `tells` says so, with the message that follows.
local function put_in(place, session, user, shown, tells)
  redis.call('HSET', here, place, cmsgpack.pack({session, user, shown}))
  set('s', num('s') + 1)
  if num('s') == 1 then note('o', '') end
  if user == '' then return nil end
  local known = redis.call('HGET', users, user)
  local first = '1'
  if known then
    local count, showing = unpack(cmsgpack.unpack(known))
    redis.call('HSET', users, user, cmsgpack.pack({count + 1, showing}))
    first = '0'
  else
    redis.call('HSET', users, user, cmsgpack.pack({1, shown}))
    if m.p == '1' then note('a', user) end
  end
  if tells then tell('+', first .. ' ' .. session, shown) end
end

-- How the channel behaves is what the last session joined with: nobody brings any options to a leave.
local function adopt(presence, join_leave, count)
  set('p', presence == '1' and '1' or nil)
  set('j', join_leave == '1' and '1' or nil)
  set('c', count == '1' and '1' or nil)
  if count ~= '1' then
    set('ct', nil)
    set('co', nil)
  end
end

-- What a session that was at a position gets: 'c' and all that came after it, or 'l'; with it all of another life than that
-- of the position, of which the session has heard nothing.
local function since(epoch, offset)
  if not m.e then return 'l', {} end
  if m.e ~= epoch then
    -- A node of an earlier version may have begun this life, and not said where.
    local began = m.b and string.sub(m.b, 1, #m.e + 1) == m.e .. ' ' and tonumber(string.sub(m.b, #m.e + 2))
    if not began or not first_kept() then return 'l', {} end
    return 'l', redis.call('XRANGE', log, int(began + 1), '+')
  end
  if offset > num('o') or (first_kept() or num('o') + 1) > offset + 1 then return 'l', {} end
  return 'c', redis.call('XRANGE', log, int(offset + 1), '+')
end

local function cached()
  if not m.cx then return false end
  return {m.cp, redis.call('GET', cache), num('cx') - now}
end

-- Writes what has changed, and puts the answer together. What nobody is there for goes by itself in time, should nobody ask
-- for it again.
local function finish(...)
  local answer = {...}
  answer[#answer + 1] = noted
  if num('s') == 0 and not m.e and not m.cx then
    redis.call('DEL', meta, log, cache, users)
    return answer
  end
  for field in pairs(changed) do
    if m[field] then redis.call('HSET', meta, field, m[field]) else redis.call('HDEL', meta, field) end
  end
  if num('s') == 0 then
    local last = math.max(num('f'), num('x'), num('cx'))
    redis.call('PEXPIRE', meta, int(math.max(last - now, 0) + SLACK))
  else
    redis.call('PERSIST', meta)
  end
  if m.e then redis.call('PEXPIRE', log, int(math.max(num('x') - now, 0) + SLACK)) end
  return answer
end

-- A generation that is newer than ours: another node has seen a failover that we haven't.
if num('g') > generation then return redis.error_reply('TIDINGSSTALE the generation is ' .. m.g) end
if m.e then
  -- What is kept is worth keeping, but a position from before the failover may be of something that was lost.
  if num('g') < generation then begin_epoch() end
  if num('s') == 0 and num('f') <= now and not first_kept() then forget_history() end
end
if m.cx and num('cx') <= now then drop_cache() end
