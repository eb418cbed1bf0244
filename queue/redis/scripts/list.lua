-- list reads entries in order.
--
-- ARGV: id; a marker: entries after it, or '' for the first; how many at most; how many bytes at
--   most, but for the first
-- Reply: status, number, term, time; 1 when there are more; then marker, data
--   and attempts of each entry, in one flat array.
-- O(log n) and what is returned.
local m = call('HMGET', meta, 'id', 'number', 'term', 'since')
if m[1] ~= ARGV[1] then
  return gone()
end
local after = place(ARGV[2], m[3], tonumber(m[2]), m[4])
if not after then
  return {3, tonumber(m[2]), m[3], now()}
end
local most, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local markers = call('ZRANGEBYSCORE', order, '(' .. after, '+inf', 'LIMIT', 0, most + 1)
local take = 0
for i = 1, math.min(most, #markers) do
  room = room - string.sub(markers[i], 37)
  if room < 0 and i > 1 then
    break
  end
  take = i
end
local list = {}
if take > 0 then
  local values = call('HMGET', data, unpack(markers, 1, take))
  local tries = call('EXISTS', attempts) == 1 and call('HMGET', attempts, unpack(markers, 1, take)) or {}
  for i = 1, take do
    list[3 * i - 2], list[3 * i - 1], list[3 * i] = markers[i], values[i], tries[i] or ''
  end
end
return {1, tonumber(m[2]), m[3], now(), take < #markers and 1 or 0, list}
