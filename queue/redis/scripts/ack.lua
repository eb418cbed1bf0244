-- ack removes entries and notes failed attempts.
--
-- ARGV: id; fence, or 0; a marker: entries up to it are removed, or ''; how many
--   of those at most; the number of single entries to be removed; their
--   markers; then marker, attempts and time of each that failed
-- Reply: status, or 2 when fenced; with 2 and 3 nothing was changed; number, term, time;
--   1 when more than that many are left up to the marker.
-- Atomic. O(log n) for each entry.
-- size is that of an entry with its overhead.
local function size(marker)
  return string.sub(marker, 37) + 10
end

-- all calls a command with any number of arguments that belong in pairs at most.
local function all(command, key, args)
  for i = 1, #args, 1000 do
    call(command, key, unpack(args, i, math.min(i + 999, #args)))
  end
end

local m = call('HMGET', meta, 'id', 'number', 'term', 'fence', 'entries', 'bytes', 'check', 'since')
if m[1] ~= ARGV[1] then
  return gone()
end
local reply = {1, tonumber(m[2]), m[3], now(), 0}
local fence, most, single = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
if fence > 0 and fence < tonumber(m[4]) then
  reply[1] = 2
  return reply
end
local upto = place(ARGV[3], m[3], reply[2], m[8])
if not upto then
  reply[1] = 3
  return reply
end

local remove, there = {}, {}
if upto > 0 then
  remove = call('ZRANGEBYSCORE', order, '-inf', upto, 'LIMIT', 0, most + 1)
  if #remove > most then
    reply[5] = 1
    remove[#remove] = nil
  end
  for i = 1, #remove do
    there[remove[i]] = true
  end
end
for i = 6, 5 + single do
  local marker = ARGV[i]
  if not there[marker] and call('ZSCORE', order, marker) then
    there[marker] = true
    remove[#remove + 1] = marker
  end
end

if #remove > 0 then
  -- A check that is under way has counted the entries up to a number.
  local counted, n, sum = tonumber(m[7] or 0), 0, 0
  local freed = 0
  for i = 1, #remove do
    local s = size(remove[i])
    freed = freed + s
    if tonumber(string.sub(remove[i], 1, 13)) <= counted then
      n, sum = n + 1, sum + s
    end
  end
  -- First what a server without memory allows, and then it allows the rest.
  all('ZREM', order, remove)
  all('HDEL', data, remove)
  if call('EXISTS', attempts) == 1 then
    all('HDEL', attempts, remove)
  end
  call('HSET', meta, 'entries', m[5] - #remove, 'bytes', m[6] - freed)
  if n > 0 then
    call('HINCRBY', meta, 'checkEntries', -n)
    call('HINCRBY', meta, 'checkBytes', -sum)
  end
end
if fence > tonumber(m[4]) then
  call('HSET', meta, 'fence', ARGV[2])
end

local failed = {}
for i = 6 + single, #ARGV, 3 do
  if not there[ARGV[i]] and call('ZSCORE', order, ARGV[i]) then
    failed[#failed + 1] = ARGV[i]
    failed[#failed + 1] = ARGV[i + 1] .. ' ' .. ARGV[i + 2]
  end
end
all('HSET', attempts, failed)
return reply
