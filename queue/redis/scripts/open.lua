-- open tells whether there is a queue.
--
-- ARGV: not used
-- Reply: 1, number, term, time and the queue's id; or 0. O(1).
local m = call('HMGET', meta, 'id', 'number', 'term')
if not m[1] then
  return {0}
end
return {1, tonumber(m[2]), m[3], now(), m[1]}
