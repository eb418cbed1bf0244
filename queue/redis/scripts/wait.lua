-- wait asks for a message when the next entries are committed.
--
-- ARGV: id; a marker, or ''; for how many milliseconds to ask
-- Reply: status, number, term, time; 1 when there is an entry after the marker.
-- O(log n).
local m = call('HMGET', meta, 'id', 'number', 'term', 'wait', 'since')
if m[1] ~= ARGV[1] then
  return gone()
end
local time = now()
local after = place(ARGV[2], m[3], tonumber(m[2]), m[5])
if not after then
  return {3, tonumber(m[2]), m[3], time}
end
local reply = {1, tonumber(m[2]), m[3], time, 1}
if #call('ZRANGEBYSCORE', order, '(' .. after, '+inf', 'LIMIT', 0, 1) == 0 then
  reply[5] = 0
  local till = math.floor(time / 1000) + ARGV[3]
  if till - m[4] > ARGV[3] / 2 then
    call('HSET', meta, 'wait', till)
  end
end
return reply
