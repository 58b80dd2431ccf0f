-- A part of the history. ARGV: epoch ('' for from the end), offset, whether backwards, how many at most.
-- Answers the epoch ('' where no history is kept), the newest offset, whether nothing is missing, and the entries.
local epoch, offset, reverse, limit = ARGV[6], tonumber(ARGV[7]), ARGV[8] == '1', tonumber(ARGV[9])
if not m.e then return finish('', 0, epoch == '' and 1 or 0, {}) end
local newest = num('o')
local first = first_kept() or newest + 1
local is_known = epoch == '' or (epoch == m.e and offset <= newest)
local is_whole = epoch == '' or (is_known and first <= offset + 1)
local entries = {}
if limit > 0 and is_known and first <= newest then
  if not reverse then
    local from = epoch == '' and first or math.max(first, offset + 1)
    entries = redis.call('XRANGE', log, int(from), '+', 'COUNT', limit)
  elseif epoch == '' then
    entries = redis.call('XREVRANGE', log, '+', '-', 'COUNT', limit)
  elseif is_whole and offset > 1 then
    entries = redis.call('XREVRANGE', log, int(offset - 1), '-', 'COUNT', limit)
  end
end
return finish(m.e, newest, is_whole and 1 or 0, entries)
