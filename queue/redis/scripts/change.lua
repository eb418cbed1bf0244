-- change ends, renews and makes reservations of one queue, several in one call.
--
-- ARGV: id; '1' when INFO is allowed; the channel that tells of commits; the
--   numbers of commits, aborts, renewals and reservations; the id of each
--   reservation, in that order; then
--   for each commit       token of the call, number of entries, their data
--   for each reservation  its value in reserved
-- Reply: status, number, term, time, and a character for each:
--   commit       1 done, now or by the same call before; 0 no such
--                reservation; 2 larger than reserved
--   abort        1
--   renewal      1 done; 0 no such reservation
--   reservation  1 done, now or before; 0 full
-- Atomic. O(log n) for each, and for each entry, of n in the queue.
local ARGV = ARGV
local m = call('HMGET', meta, 'id', 'capacity', 'entries', 'bytes', 'reservations', 'reserved', 'number', 'term', 'wait', 'ended',
  'endedNumber')
if m[1] ~= ARGV[1] then
  return gone()
end
local time = now()
local term, number = follow(ARGV[2], m[8], tonumber(m[7]), time)
if number > tonumber(m[7]) then -- skipped numbers are no writes to be forgotten for
  m[11] = m[11] + number - m[7]
  call('HSET', meta, 'endedNumber', m[11])
end
local entries, bytes, count, held = tonumber(m[3]), tonumber(m[4]), tonumber(m[5]), tonumber(m[6])
local commits = tonumber(ARGV[4])
local aborts = commits + ARGV[5]
local renewals = aborts + ARGV[6]
local last = renewals + ARGV[7]
local first = number
local known = call('HMGET', reserved, unpack(ARGV, 8, 7 + last))
local over, before_over -- which reservations have ended, and by which call

local results, at, again = {}, 8 + last, false
local now_ended, removed, remember = {}, {}, {}
local stamped = string.format('%.0f', time)
local put, index, suffix = {}, {}, nil
local made, stamp, apart = {}, {}, {}
for i = 1, last do
  local id, value, result = ARGV[7 + i], known[i], '1'
  local size, most, total
  if value and not now_ended[id] then
    size, most = struct.unpack('>I8I4', value)
    total = size + 10 * most
  end
  if i <= commits then
    local token, n = ARGV[at], tonumber(ARGV[at + 1])
    at = at + 2
    if size then
      local sum = 0
      for k = at, at + n - 1 do
        sum = sum + #ARGV[k]
      end
      if sum > size or n > most then
        result = '2'
      else
        now_ended[id] = token
        number = number + 1
        suffix = suffix or '-' .. short(term) .. '-' .. stamped .. '-'
        for k = at, at + n - 1 do
          number = number + 1
          local score = number .. ''
          local marker = score .. suffix .. #ARGV[k]
          local p = #put
          put[p + 1], put[p + 2] = marker, ARGV[k]
          index[p + 1], index[p + 2] = score, marker
        end
        entries, bytes = entries + n, bytes + sum + 10 * n
      end
    else
      if not over then
        over = call('HMGET', ended, unpack(ARGV, 8, 7 + last))
        before_over = call('HMGET', before, unpack(ARGV, 8, 7 + last))
      end
      again = (now_ended[id] or over[i] or before_over[i]) == token
      result = again and '1' or '0'
    end
    at = at + n
  elseif i <= aborts then
    if size then
      now_ended[id] = '-'
      number = number + 1
    end
  elseif i <= renewals then
    if size then
      local p = #stamp
      stamp[p + 1], stamp[p + 2] = stamped, id
      number = number + 1
    else
      result = '0'
    end
  else
    local new = ARGV[at]
    size, most = struct.unpack('>I8I4', new)
    total = size + 10 * most
    if value then
      again = true
    elseif total > m[2] - bytes - held then
      result = '0'
    else
      local p = #made
      made[p + 1], made[p + 2] = id, new
      p = #stamp
      stamp[p + 1], stamp[p + 2] = stamped, id
      count, held, number = count + 1, held + total, number + 1
    end
    at = at + 1
  end
  local token = now_ended[id]
  if total and token and i <= aborts and result == '1' then
    local p = #removed
    removed[p + 1] = id
    if #value == 12 then
      apart[#apart + 1] = id
    end
    remember[2 * p + 1], remember[2 * p + 2] = id, token
    count, held = count - 1, held - total
  end
  results[i] = result
end

-- Nothing was written so far but a new term.
if put[1] then
  if #put <= 1000 then
    call('HSET', data, unpack(put))
    call('ZADD', order, unpack(index))
  else
    for i = 1, #put, 1000 do
      call('HSET', data, unpack(put, i, math.min(i + 999, #put)))
      call('ZADD', order, unpack(index, i, math.min(i + 999, #put)))
    end
  end
  if m[9] * 1000 > time then
    call('PUBLISH', ARGV[3], ARGV[1])
    call('HSET', meta, 'wait', 0)
  end
end
if removed[1] then
  call('HDEL', reserved, unpack(removed))
  if apart[1] then
    call('HDEL', intents, unpack(apart))
  end
  call('ZREM', times, unpack(removed))
  local rotate = time - m[10] > 120000000 or number - m[11] > 400000
  if rotate then
    call('UNLINK', before)
    if call('EXISTS', ended) == 1 then
      call('RENAME', ended, before)
    end
    call('HSET', meta, 'ended', time, 'endedNumber', number)
  end
  call('HSET', ended, unpack(remember))
  if rotate then
    call('PEXPIRE', ended, 600000)
  end
end
if made[1] then
  call('HSET', reserved, unpack(made))
end
if stamp[1] then
  call('ZADD', times, unpack(stamp))
end
if number > first then
  call('HSET', meta, 'entries', entries, 'bytes', bytes, 'reservations', count, 'reserved', held, 'number', number)
elseif again then
  call('HSET', meta, 'again', time) -- a write for WAIT to wait for
end
return {1, number, term, time, table.concat(results)}
