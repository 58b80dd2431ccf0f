-- Makes the node's sessions in the channel exactly those named, after the node could not be sure. ARGV: presence,
-- join_leave, subscription_count, history_size, history_ttl, whether members that were missing are told, the epoch ('' for
-- none) and offset that all of them have heard, then place, session, user and what it shows, of each.
-- Answers where in the channel's messages that is, and what was missed.
local tells = ARGV[11] == '1'
local epoch, offset = ARGV[12], tonumber(ARGV[13])
local named = {}
for i = 14, #ARGV, 4 do named[ARGV[i]] = true end
if #ARGV >= 14 then adopt(ARGV[6], ARGV[7], ARGV[8]) end
for _, place in ipairs(redis.call('HKEYS', here)) do
  if not named[place] then take_out(place) end
end
local came = false
for i = 14, #ARGV, 4 do
  local place, user = ARGV[i], ARGV[i + 2]
  if m.p ~= '1' and m.j ~= '1' then user = '' end
  if redis.call('HEXISTS', here, place) == 0 then
    put_in(place, ARGV[i + 1], user, ARGV[i + 3], tells and m.j == '1')
    came = true
  end
end
if came then count_has_changed() end
if #ARGV >= 14 and tonumber(ARGV[9]) > 0 then begin_history(tonumber(ARGV[10])) end
local recovery, entries = 'n', {}
if epoch ~= '' then recovery, entries = since(epoch, offset) end
return finish(last_message(), m.e or '', num('o'), recovery, entries, m.co or '0')
