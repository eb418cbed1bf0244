-- check compares a part of what is kept with the rest of it, and repairs it.
--
-- ARGV: id; the step; a cursor, '0' at first; '1' to repair; token of the check
-- Steps:
--   order     each marker has its data
--   data      each datum has its place in the order. To put one back raises the
--             fence: whoever acks must have listed anew since
--   attempts  each has its entry
--   reserved  each reservation has its time stamp
--   times     each time stamp has its reservation
--   intents   each intent has its reservation
--   entries   counts the entries in order. What was counted is kept in check,
--             checkEntries and checkBytes of meta, from which ack takes what it
--             removes meanwhile; the last call compares.
--   held      compares reservations, when they are few enough for one call;
--             else it sums a page: the caller compares
--   settle    sets reservations and reserved bytes to ARGV[6] and ARGV[7], if
--             the number of the queue's last write is still the cursor's
-- Reply: status, or 2 when another check or a write has come between; number, term, time; cursor
--   of the next call, '0' when that was the last; then kind and number of what
--   was found, in one flat array. Step held has the sum of its page before that.
-- O(log n) for each of at most 250 that are looked at; held: 1,000.
-- size is that of an entry with its overhead.
local function size(marker)
  return string.sub(marker, 37) + 10
end

local m = call('HMGET', meta, 'id', 'number', 'term', 'entries', 'bytes', 'reservations', 'reserved', 'check', 'checkEntries',
  'checkBytes', 'checkToken')
if m[1] ~= ARGV[1] then
  return gone()
end
local step, cursor, repair, token = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local found, following, sum = {}, '0', {0, 0}
local function add(kind, n)
  if n ~= 0 then
    found[#found + 1] = kind
    found[#found + 1] = string.format('%.0f', n)
  end
end

-- page reads markers in order after the cursor.
local function page()
  local markers = call('ZRANGEBYSCORE', order, '(' .. cursor, '+inf', 'LIMIT', 0, 250)
  if #markers == 250 then
    following = string.sub(markers[250], 1, 13)
  end
  return markers
end

-- scan calls f for each field and value of a hash, and returns how often it
-- answered true.
local function scan(key, f)
  local r = call('HSCAN', key, cursor, 'COUNT', 100)
  following = r[1]
  local n = 0
  for i = 1, #r[2], 2 do
    if f(r[2][i], r[2][i + 1]) then
      n = n + 1
    end
  end
  return n
end

local steps = {}

function steps.order()
  local lost = 0
  for _, marker in ipairs(page()) do
    if call('HEXISTS', data, marker) == 0 then
      lost = lost + 1
      if repair then
        call('ZREM', order, marker)
      end
    end
  end
  add('missing', lost)
end

function steps.data()
  local back = false
  add('orphan', scan(data, function(marker)
    if call('ZSCORE', order, marker) then
      return false
    end
    if repair then
      call('ZADD', order, tonumber(string.sub(marker, 1, 13)), marker)
    end
    back = true
    return true
  end))
  if back and repair then
    call('HINCRBY', meta, 'fence', 1)
  end
end

function steps.attempts()
  add('attempts', scan(attempts, function(marker)
    if call('ZSCORE', order, marker) then
      return false
    end
    if repair then
      call('HDEL', attempts, marker)
    end
    return true
  end))
end

function steps.reserved()
  add('index', scan(reserved, function(id)
    if call('ZSCORE', times, id) then
      return false
    end
    if repair then
      call('ZADD', times, now(), id)
    end
    return true
  end))
end

function steps.times()
  local r = call('ZSCAN', times, cursor, 'COUNT', 100)
  following = r[1]
  local stray = 0
  for i = 1, #r[2], 2 do
    if call('HEXISTS', reserved, r[2][i]) == 0 then
      stray = stray + 1
      if repair then
        call('ZREM', times, r[2][i])
      end
    end
  end
  add('stray', stray)
end

function steps.intents()
  add('intents', scan(intents, function(id)
    if call('HEXISTS', reserved, id) == 1 then
      return false
    end
    if repair then
      call('HDEL', intents, id)
    end
    return true
  end))
end

function steps.entries()
  if cursor == '0' then
    call('HSET', meta, 'check', 0, 'checkEntries', 0, 'checkBytes', 0, 'checkToken', token)
    m[9], m[10], m[11] = 0, 0, token
  end
  if m[11] ~= token then
    return 2
  end
  local markers = page()
  local n, bytes = m[9] + #markers, tonumber(m[10])
  for _, marker in ipairs(markers) do
    bytes = bytes + size(marker)
  end
  if following ~= '0' then
    call('HSET', meta, 'check', tonumber(following), 'checkEntries', n, 'checkBytes', bytes)
    return 1
  end
  call('HDEL', meta, 'check', 'checkEntries', 'checkBytes', 'checkToken')
  add('entries', m[4] - n)
  add('bytes', m[5] - bytes)
  if repair and #found > 0 then
    call('HSET', meta, 'entries', n, 'bytes', bytes)
  end
  return 1
end

function steps.held()
  local whole = call('HLEN', reserved) <= 1000
  local values
  if whole then
    values = call('HVALS', reserved)
  else
    local ids = call('ZRANGE', times, cursor, cursor + 499)
    values = #ids > 0 and call('HMGET', reserved, unpack(ids)) or {}
    if #ids == 500 then
      following = string.format('%d', cursor + 500)
    end
  end
  for i = 1, #values do
    if values[i] then
      local s, n = struct.unpack('>I8I4', values[i])
      sum[1], sum[2] = sum[1] + 1, sum[2] + s + 10 * n
    end
  end
  if not whole then
    return 1
  end
  sum[1] = -1
  add('reservations', m[6] - #values)
  add('reserved', m[7] - sum[2])
  if repair and #found > 0 then
    call('HSET', meta, 'reservations', #values, 'reserved', sum[2])
  end
  return 1
end

function steps.settle()
  if m[2] ~= cursor then
    return 2
  end
  call('HSET', meta, 'reservations', ARGV[6], 'reserved', ARGV[7])
  return 1
end

local status = steps[step]() or 1
return {status, tonumber(m[2]), m[3], now(), following, sum[1], sum[2], found}
