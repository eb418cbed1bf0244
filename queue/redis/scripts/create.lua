-- create makes a queue.
--
-- ARGV: id of the new queue, chosen by the caller; '1' when INFO is allowed;
--   capacity in bytes
-- Reply: 1, number, term, time when it was made, now or by the same call
--   before; 2 when there is another. O(1).
local id = call('HGET', meta, 'id')
if id == ARGV[1] or call('HEXISTS', deleted, ARGV[1]) == 1 then
  call('HSET', deleted, 'again', '') -- a write for WAIT to wait for
  return {1}
end
if id then
  return {2}
end
local time = now()
local number = math.floor(time / 1000)
call('HSET', meta, 'id', ARGV[1], 'capacity', ARGV[3], 'entries', 0, 'bytes', 0, 'reservations', 0, 'reserved', 0,
  'number', number, 'term', '', 'fence', 0, 'wait', 0, 'ended', 0, 'endedNumber', 0, 'since', 0)
local term
term, number = follow(ARGV[2], '', number, time)
return {1, number, term, time}
