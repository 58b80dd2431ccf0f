-- A part of the history. ARGV: epoch and offset of where it begins (optional: from the end), reverse, limit.
-- Answers epoch ('' where no history is kept) and offset of the newest entry; complete, whether nothing is missing; entries.
local epoch, offset, reverse, limit = arg.epoch, arg.offset or 0, arg.reverse, arg.limit
if not m.e then return finish('epoch', '', 'offset', 0, 'complete', epoch and 0 or 1, 'entries', {}) end
local newest = num('o')
local first = first_kept() or newest + 1
local is_known = not epoch or (epoch == m.e and offset <= newest)
local is_whole = not epoch or (is_known and first <= offset + 1)
local entries = {}
if limit > 0 and is_known and first <= newest then
  if not reverse then
    local from = not epoch and first or math.max(first, offset + 1)
    entries = redis.call('XRANGE', log, int(from), '+', 'COUNT', limit)
  elseif not epoch then
    entries = redis.call('XREVRANGE', log, '+', '-', 'COUNT', limit)
  elseif is_whole and offset > 1 then
    entries = redis.call('XREVRANGE', log, int(offset - 1), '-', 'COUNT', limit)
  end
end
return finish('epoch', m.e, 'offset', newest, 'complete', is_whole and 1 or 0, 'entries', entries)
