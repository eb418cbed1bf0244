-- names keeps the list of queues. It is in a slot of its own, so that no queue
-- changes together with it: a name is pending while its queue is made or
-- deleted, and whoever lists names asks for those queues one by one.
--
-- Who makes or deletes a queue begins, then does it or looks whether the queue
-- is there, and ends that by what it found. Another that has begun meanwhile may
-- have done something since: then it is to begin again, and to look again. So
-- the last one to end has looked after all others had done what they did.
--
-- KEYS: names ZSET, all with score 0, ordered by bytes; pending HASH name ->
--   token of the call that made it so
-- ARGV: what to do; name; token
--   begin   enters the name as pending
--   there   ends that: the name stays
--   gone    ends that: the name is removed
-- Reply: 1; 0 when another has begun or ended since. O(log n).
local call = redis.call
if ARGV[1] == 'begin' then
  call('ZADD', KEYS[1], 0, ARGV[2])
  call('HSET', KEYS[2], ARGV[2], ARGV[3])
  return 1
end
if call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
  return 0
end
call('HDEL', KEYS[2], ARGV[2])
if ARGV[1] == 'gone' then
  call('ZREM', KEYS[1], ARGV[2])
end
return 1
