-- The state of one channel: every script of a channel begins with this text.
--
-- KEYS: meta (hash), log (stream), cache (string), users (hash), here (hash of one node's sessions).
-- ARGV: a MessagePack map of arguments by name; those that a script's comment calls optional may be missing. Every script
-- gets generation, now (ms), pubsub_channel (where nodes subscribe), publish_command (PUBLISH or SPUBLISH),
-- random (16 hex digits), and transitions: a letter for each kind of transition to record: o occupied, v vacated,
-- a member added, r member removed, c subscription count, m cache miss.
--
-- meta: n number of the last message; s subscriptions; p j c options of the last join (presence, join_leave, count);
-- ct when the subscription count was sent last; co whether a count is pending; g e o generation, epoch and offset of the
-- history; b the epoch and the offset that it began with; t its ttl; x when its last entry expires; f when the position
-- of a vacated channel expires; cx cp when the cached event expires, and its position; cm whether a session has joined
-- without finding a cached event since the last one; tn the number of the last transition.
--
-- An answer is an array of names, each followed by its value. Each answer ends with the recorded transitions: kind, number
-- and subject (a user or a count), separated by spaces.
--
-- Nodes of other versions use the same keys: docs/adr/0012 says which changes are allowed.
local meta, log, cache, users, here = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local arg = cmsgpack.unpack(ARGV[1])
local generation, now = arg.generation, arg.now
local COUNT_THROTTLED_ABOVE, COUNT_INTERVAL, SLACK = 100, 5000, 60000

local m, changed, recorded = {}, {}, {}
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

local function drop_history()
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

-- Drops expired entries from the front of the log. Returns the offset of the first entry that is left.
local function first_kept()
  while true do
    local front = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    if not front then return nil end
    if tonumber(front[2][2]) > now then return tonumber(string.match(front[1], '^%d+')) end
    redis.call('XDEL', log, front[1])
  end
end

-- Begins a new epoch. Its text begins with the generation in which it was made.
local function begin_epoch()
  set('g', generation)
  set('e', string.format('%x-', generation) .. arg.random)
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

-- The last session has left: the position is kept for twice the history's ttl.
local function vacated()
  if m.e then set('f', now + 2 * num('t')) end
end

-- The last number of a sequence. A sequence starts at the time in microseconds, so its numbers are higher than those from
-- before the channel was deleted.
local function last_number(field)
  if not m[field] then
    local time = redis.call('TIME')
    set(field, tonumber(time[1]) * 1000000 + tonumber(time[2]))
  end
  return num(field)
end

-- Messages are numbered without a gap.
local function last_message() return last_number('n') end

-- Records a transition, if its kind is wanted.
local function record(kind, about)
  if not string.find(arg.transitions, kind, 1, true) then return end
  set('tn', last_number('tn') + 1)
  recorded[#recorded + 1] = kind .. ' ' .. m.tn .. ' ' .. about
end

-- Publishes a message to all subscribed nodes. A channel without sessions has none.
local function publish(kind, head, body)
  if num('s') == 0 then return end
  set('n', last_message() + 1)
  redis.call(arg.publish_command, arg.pubsub_channel, kind .. ' ' .. m.n .. ' ' .. head .. '\n' .. body)
end

local function send_count()
  local s = num('s')
  if m.c ~= '1' or m.co ~= '1' or s == 0 then return end
  if s > COUNT_THROTTLED_ABOVE and m.ct and now - num('ct') < COUNT_INTERVAL then return end
  set('ct', now)
  set('co', nil)
  publish('#', int(s), '')
  record('c', int(s))
end

local function count_changed()
  if m.c == '1' then
    set('co', '1')
    send_count()
  end
end

local function user_count() return m.p == '1' and redis.call('HLEN', users) or 0 end

-- The member info of each user's first session.
local function all_members()
  local all = m.p == '1' and redis.call('HVALS', users) or {}
  for i, user in ipairs(all) do all[i] = cmsgpack.unpack(user)[2] end
  return all
end

-- Removes a session. Returns the number of the message before its leave, or nil if the session is not there.
local function remove_session(session_ref)
  local seat = redis.call('HGET', here, session_ref)
  if not seat then return nil end
  local at = last_message()
  redis.call('HDEL', here, session_ref)
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
      if m.p == '1' then record('r', user) end
    end
    if m.j == '1' then publish('-', last .. ' ' .. session, shown) end
  end
  count_changed()
  if num('s') == 0 then
    vacated()
    record('v', '')
  end
  return at
end

-- Adds a session that is not there yet. Publishes its join message if `tells`.
local function add_session(session_ref, session, user, shown, tells)
  redis.call('HSET', here, session_ref, cmsgpack.pack({session, user, shown}))
  set('s', num('s') + 1)
  if num('s') == 1 then record('o', '') end
  if user == '' then return nil end
  local known = redis.call('HGET', users, user)
  local first = '1'
  if known then
    local count, showing = unpack(cmsgpack.unpack(known))
    redis.call('HSET', users, user, cmsgpack.pack({count + 1, showing}))
    first = '0'
  else
    redis.call('HSET', users, user, cmsgpack.pack({1, shown}))
    if m.p == '1' then record('a', user) end
  end
  if tells then publish('+', first .. ' ' .. session, shown) end
end

-- Takes over the options of a join. They also hold for leaves, which carry no options.
local function apply_options(presence, join_leave, count)
  set('p', presence and '1' or nil)
  set('j', join_leave and '1' or nil)
  set('c', count and '1' or nil)
  if not count then
    set('ct', nil)
    set('co', nil)
  end
end

-- The recovery of a session from a position: 'c' (complete) and all entries after it, or 'l' (lost). If the position is of
-- another epoch, 'l' comes with all entries of the present epoch, because the session has received none of them.
local function since(epoch, offset)
  if not m.e then return 'l', {} end
  if m.e ~= epoch then
    -- A node of an earlier version may have begun this epoch, and not stored its first offset.
    local began = m.b and string.sub(m.b, 1, #m.e + 1) == m.e .. ' ' and tonumber(string.sub(m.b, #m.e + 2))
    if not began or not first_kept() then return 'l', {} end
    return 'l', redis.call('XRANGE', log, int(began + 1), '+')
  end
  if offset > num('o') or (first_kept() or num('o') + 1) > offset + 1 then return 'l', {} end
  return 'c', redis.call('XRANGE', log, int(offset + 1), '+')
end

local function cached()
  if not m.cx then return false end
  return {'position', m.cp, 'event', redis.call('GET', cache), 'ttl', num('cx') - now}
end

-- Writes changed fields, and builds the answer from names and values. The keys of a vacated channel expire by themselves
-- if no script runs on it again.
local function finish(...)
  local answer = {...}
  answer[#answer + 1] = 'transitions'
  answer[#answer + 1] = recorded
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

-- The channel's generation is newer than ours: another node has seen a failover that this node has not.
if num('g') > generation then return redis.error_reply('TIDINGSSTALE the generation is ' .. m.g) end
if m.e then
  -- The entries are kept, but a position from before the failover may belong to a lost publication: a new epoch begins.
  if num('g') < generation then begin_epoch() end
  if num('s') == 0 and num('f') <= now and not first_kept() then drop_history() end
end
if m.cx and num('cx') <= now then drop_cache() end
