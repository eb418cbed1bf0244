-- renew extends a lease, or ends it.
--
-- KEYS: holder
-- ARGV: owner; fence; milliseconds of the lease, or 0 to end it
-- Reply: 1; 0 when the lease is lost. O(1).
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
