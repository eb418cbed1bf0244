-- group enters a member into a group, or lets it leave.
--
-- KEYS: members HASH, member -> milliseconds of the server's clock when it goes,
--   and for how many it stays
-- ARGV: member; milliseconds to stay, or 0 to leave
-- Reply: the members. Nobody stays for longer from now than was asked for, also
--   when the server's clock was set back. O(n) of n members.
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[2] == '0' then
  call('HDEL', KEYS[1], ARGV[1])
else
  call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + ARGV[2], ARGV[2]))
end
local all, members, last = call('HGETALL', KEYS[1]), {}, 0
for i = 1, #all, 2 do
  local ends, stay = string.match(all[i + 1], '^(%d+) (%d+)$')
  ends, stay = tonumber(ends), tonumber(stay)
  if ends > now + stay then
    ends = now + stay
    call('HSET', KEYS[1], all[i], string.format('%.0f %.0f', ends, stay))
  end
  if ends > now then
    members[#members + 1] = all[i]
    last = math.max(last, ends)
  else
    call('HDEL', KEYS[1], all[i])
  end
end
if #members > 0 then
  call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(1000, last - now)))
end
return members
