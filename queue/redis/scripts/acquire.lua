-- acquire takes a lock.
--
-- KEYS: holder HASH owner, fence, token, ttl, which expires with the lease; fence
--   STRING, the newest, which stays
-- ARGV: owner; milliseconds of the lease; token of the call
-- Reply: the fence; 0 when another owner holds the lock. An owner that holds it
--   has its lease extended; another's that would last longer than it was taken
--   for, since the server's clock was set back, is cut to that, and one that has
--   no end gets one: the server did not keep all of what took it. Fences grow by
--   at least the microseconds of the server's clock, so that they grow also past
--   those of which the server lost the record. O(1).
local call = redis.call
local held = call('HMGET', KEYS[1], 'owner', 'fence', 'ttl')
if held[1] and held[1] ~= ARGV[1] then
  local left = call('PTTL', KEYS[1])
  if left < 0 or held[3] and left > tonumber(held[3]) then
    call('PEXPIRE', KEYS[1], held[3] or ARGV[2])
  end
  return 0
end
local fence = held[2]
if not held[1] then
  local t = call('TIME')
  fence = string.format('%.0f', math.max((call('GET', KEYS[2]) or 0) + 1, t[1] * 1000000 + t[2]))
  call('SET', KEYS[2], fence)
  call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', fence)
end
call('HSET', KEYS[1], 'token', ARGV[3], 'ttl', ARGV[2])
call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(fence)
