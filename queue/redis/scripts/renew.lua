-- renew extends a lease, or ends it.
--
-- KEYS: holder
-- ARGV: owner; fence; milliseconds of the lease, or 0 to end it; token of the
--   call that acquired it
-- Reply: 1; 0 when the lease is lost. It is not ended when its owner has
--   acquired it again: this call may be late. O(1).
local held = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'token')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
if ARGV[3] == '0' then
  if held[3] == ARGV[4] then
    redis.call('DEL', KEYS[1])
  end
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
