-- change ends, renews and makes reservations of one queue, several in one call.
--
-- ARGV: id; '1' when INFO is allowed; the channel that tells of commits; the
--   numbers of commits, aborts, renewals and reservations; then
--   for each commit       id, token of the call, number of entries, their data
--   for each abort        id
--   for each renewal      id
--   for each reservation  id, size, entries, intent
-- Reply: status, number, term, time, and a character for each, in that order:
--   commit       1 done, now or by the same call before; 0 no such
--                reservation; 2 larger than reserved
--   abort        1
--   renewal      1 done; 0 no such reservation
--   reservation  1 done, now or before; 0 full; 2 ended before
-- Atomic. O(log n) for each, and for each entry, of n in the queue.
local m = call('HMGET', meta, 'id', 'capacity', 'entries', 'bytes', 'reservations', 'reserved', 'number', 'term', 'wait', 'ended')
if m[1] ~= ARGV[1] then
  return gone()
end
local time = now()
local term, number = follow(ARGV[2], m[8], tonumber(m[7]), time)
local tag = term == '' and '0000' or string.sub(term, 1, 4)
local entries, bytes, count, held = tonumber(m[3]), tonumber(m[4]), tonumber(m[5]), tonumber(m[6])
local commits, aborts, renewals, reserves = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- Where each begins, and what is known of its reservation.
local first, ids, pos = {}, {}, 8
for i = 1, commits + aborts + renewals + reserves do
  first[i], ids[i] = pos, ARGV[pos]
  if i <= commits then
    pos = pos + 3 + ARGV[pos + 2]
  elseif i <= commits + aborts + renewals then
    pos = pos + 1
  else
    pos = pos + 4
  end
end
local known = call('HMGET', reserved, unpack(ids))
local over -- ended calls by number
local function endedBy(i)
  if not over then
    over = {call('HMGET', ended, unpack(ids)), call('HMGET', before, unpack(ids))}
  end
  return over[1][i] or over[2][i]
end

local removed, untimed, remember, now_ended, again = {}, {}, {}, {}, false
local function finish(i, token, total)
  local id = ids[i]
  now_ended[id] = token
  removed[#removed + 1] = id
  untimed[#untimed + 1] = id .. ':' .. string.format('%.0f', total)
  remember[#remember + 1] = id
  remember[#remember + 1] = token
  count, held = count - 1, held - total
end
-- look returns size, entries and bytes with overhead of a reservation.
local function look(i)
  if known[i] and not now_ended[ids[i]] then
    local s, n = struct.unpack('>I8I4', known[i])
    return s, n, s + 10 * n
  end
end

local results, put, index = {}, {}, {}
local function commit(i)
  local at = first[i]
  local token, n = ARGV[at + 1], tonumber(ARGV[at + 2])
  local s, most, total = look(i)
  if not s then
    if (now_ended[ids[i]] or endedBy(i)) == token then
      again = true
      return '1'
    end
    return '0'
  end
  local sum = 0
  for k = at + 3, at + 2 + n do
    sum = sum + #ARGV[k]
  end
  if sum > s or n > most then
    return '2'
  end
  finish(i, token, total)
  number = number + 1
  for k = at + 3, at + 2 + n do
    number = number + 1
    local marker = string.format('%016.0f-%s-%016.0f-%d', number, tag, time, #ARGV[k])
    put[#put + 1] = marker
    put[#put + 1] = ARGV[k]
    index[#index + 1] = number
    index[#index + 1] = marker
  end
  entries, bytes = entries + n, bytes + sum + 10 * n
  return '1'
end

local function abort(i)
  local s, n, total = look(i)
  if s then
    finish(i, '-', total)
    number = number + 1
  end
  return '1'
end

local stamp = {}
local function renew(i)
  local s, n, total = look(i)
  if not s then
    return '0'
  end
  stamp[#stamp + 1] = time
  stamp[#stamp + 1] = ids[i] .. ':' .. string.format('%.0f', total)
  number = number + 1
  return '1'
end

local made = {}
local function reserve(i)
  local at = first[i]
  local s, n = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if known[i] then
    again = true
    return '1'
  end
  if endedBy(i) then
    return '2'
  end
  local total = s + 10 * n
  if total > tonumber(m[2]) - bytes - held then
    return '0'
  end
  made[#made + 1] = ids[i]
  made[#made + 1] = struct.pack('>I8I4', s, n) .. ARGV[at + 3]
  stamp[#stamp + 1] = time
  stamp[#stamp + 1] = ids[i] .. ':' .. string.format('%.0f', total)
  count, held, number = count + 1, held + total, number + 1
  return '1'
end

for i = 1, #ids do
  if i <= commits then
    results[i] = commit(i)
  elseif i <= commits + aborts then
    results[i] = abort(i)
  elseif i <= commits + aborts + renewals then
    results[i] = renew(i)
  else
    results[i] = reserve(i)
  end
end

-- Nothing was written so far but a new term.
if #put > 0 then
  all('HSET', data, put)
  all('ZADD', order, index)
  if tonumber(m[9]) * 1000 > time then
    call('PUBLISH', ARGV[3], ARGV[1])
    call('HSET', meta, 'wait', 0)
  end
end
if #removed > 0 then
  call('HDEL', reserved, unpack(removed))
  call('ZREM', times, unpack(untimed))
  local since = tonumber(m[10])
  local rotate = time - since > 120000000 or call('HLEN', ended) > 131072
  if rotate then
    call('UNLINK', before)
    if call('EXISTS', ended) == 1 then
      call('RENAME', ended, before)
    end
    call('HSET', meta, 'ended', time)
  end
  call('HSET', ended, unpack(remember))
  if rotate then
    call('PEXPIRE', ended, 600000)
  end
end
if #made > 0 then
  call('HSET', reserved, unpack(made))
end
if #stamp > 0 then
  call('ZADD', times, unpack(stamp))
end
if #removed > 0 or #stamp > 0 then
  call('HSET', meta, 'entries', entries, 'bytes', bytes, 'reservations', count, 'reserved', held, 'number', number)
elseif again then
  call('HSET', meta, 'again', time) -- a write for WAIT to wait for
end
return {1, number, term, time, table.concat(results)}
