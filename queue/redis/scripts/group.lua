-- group enters a member into a group, or lets it leave.
--
-- KEYS: members ZSET, member -> milliseconds of the server's clock when it goes
-- ARGV: member; milliseconds to stay, or 0 to leave
-- Reply: the members. O(n) of n members.
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[2] == '0' then
  call('ZREM', KEYS[1], ARGV[1])
else
  call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
end
local last = call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if last then
  call('PEXPIRE', KEYS[1], math.max(1000, last - now))
end
return call('ZRANGE', KEYS[1], 0, -1)
