-- names keeps the list of queues. It is in a slot of its own, so that no queue
-- changes together with it: a name is pending while its queue is made or
-- deleted, and whoever lists names asks for those queues one by one.
--
-- KEYS: names ZSET, all with score 0, ordered by bytes; pending HASH name ->
--   token of the call that made it so
-- ARGV: what to do; name; token
--   begin   enters the name as pending
--   there   ends that, and the name stays; if it was pending for another call
--           meanwhile, it is entered again. Reply 1 when it ended, else 0: to
--           be called again
--   gone    ends that, if it is pending for this call still, and removes the
--           name
--   leave   ends that, if it is pending for this call still
-- Reply: 1, or 0. O(log n).
local call = redis.call
local mine = call('HGET', KEYS[2], ARGV[2]) == ARGV[3]
if ARGV[1] == 'begin' or ARGV[1] == 'there' and not mine then
  call('ZADD', KEYS[1], 0, ARGV[2])
  call('HSET', KEYS[2], ARGV[2], ARGV[3])
  return ARGV[1] == 'begin' and 1 or 0
end
if mine then
  call('HDEL', KEYS[2], ARGV[2])
  if ARGV[1] == 'gone' then
    call('ZREM', KEYS[1], ARGV[2])
  end
end
return 1
