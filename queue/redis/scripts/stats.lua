-- stats reads what is counted.
--
-- ARGV: id
-- Reply: status, number, term, time; capacity, entries, bytes, reservations,
--   reserved bytes, marker of the oldest entry or '', and the history (see
--   follow).
-- O(log n).
local m = call('HMGET', meta, 'id', 'number', 'term', 'capacity', 'entries', 'bytes', 'reservations', 'reserved', 'history')
if m[1] ~= ARGV[1] then
  return gone()
end
local oldest = call('ZRANGE', order, 0, 0)[1] or ''
return {1, tonumber(m[2]), m[3], now(), m[4], m[5], m[6], m[7], m[8], oldest, m[9] or ''}
