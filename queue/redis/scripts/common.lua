-- Goes before every script of a queue.
--
-- KEYS, all in one hash slot, the same for every such script:
--   meta      HASH  id, capacity, what is counted, number, term, history, since, fence, wait, ended, check
--   reserved  HASH  reservation id -> size (8 bytes) and entries (4 bytes), big endian, and the intent
--   intents   HASH  reservation id -> the intent, where it is not in reserved; not written any more
--   times     ZSET  reservation id -> when made or last renewed
--   data      HASH  marker -> the entry's data
--   order     ZSET  marker -> the entry's number
--   attempts  HASH  marker -> failed attempts and time of the latest; only entries that failed
--   ended     HASH  reservation id -> token of the call that ended it; since a while ago
--   before    HASH  the same, of the while before
--   deleted   HASH  ids of queues of this name that were deleted -> token of the call
-- Times are microseconds of the server's clock. A marker is
-- number-term-time-size of its entry: 13 digits, 4 characters, 16 digits, digits.
-- Numbers grow with each write, from the milliseconds of the server's clock
-- when the queue was made: they have 13 digits.
-- ARGV[1] is the id of the queue as the caller knows it.
--
-- Replies begin with a status: 1 done; 0 the queue was deleted; -1 it is not
-- there and nobody deleted it; then number and term of the queue's last write,
-- and the server's time. 3, where a marker is given: it is not known, see place.
local call = redis.call
local meta, reserved, intents, times, data, order, attempts, ended, before, deleted = unpack(KEYS)

local function now()
  local t = call('TIME')
  return t[1] * 1000000 + t[2]
end

local function gone()
  return {call('HEXISTS', deleted, ARGV[1]) - 1}
end

-- follow returns term and number to write under. A term is the time that one
-- server is master: its replication id changes when it restarts and when a
-- replica is promoted. With each, the numbers skip those that the server
-- before may have given to writes that are lost. The history has a line for
-- each former term: its name, its last number that is left, and the number that
-- the next begins after. Of a long one the first terms are left out; a line
-- with the name - has the number that they end with. since is the number that
-- the present one begins after. A term comes again when a slot is moved and
-- back.
local function follow(info, term, number, time)
  if info ~= '1' then
    return term, number
  end
  local id = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  if id == term then
    return term, number
  end
  local last = number
  number = math.max(number + 1000000, math.floor(time / 1000))
  local history = (call('HGET', meta, 'history') or '') .. term .. ' ' .. last .. ' ' .. number .. '\n'
  if #history > 4000 then
    local before_all
    while #history > 3800 do
      before_all, history = string.match(history, ' (%d+)\n(.*)')
    end
    history = '- 0 ' .. before_all .. '\n' .. history
  end
  call('HSET', meta, 'term', id, 'number', number, 'history', history, 'since', number)
  return id, number
end

-- short is how a marker has a term.
local function short(term)
  return term == '' and '0000' or string.sub(term, 1, 4)
end

-- place returns the number up to which whoever listed the marker has seen the
-- entries that are there, 0 without a marker; or nil: it is not known. Numbers
-- of one term are a line of writes that nothing else is between. A marker that
-- is beyond what is left of its term has seen that to its end, but nothing of
-- the terms after, even though their numbers may be smaller: this server may
-- have begun with an older state than the marker's.
local function place(marker, term, number, since)
  if marker == '' then
    return 0
  end
  local n, of = tonumber(string.sub(marker, 1, 13)), string.sub(marker, 15, 18)
  if of == short(term) and since and n > tonumber(since) and n <= number then
    return n
  end
  local seen, start = nil, 0
  local terms = (call('HGET', meta, 'history') or '') .. term .. ' ' .. string.format('%.0f', number) .. ' 0\n'
  for name, last, following in string.gmatch(terms, '([%x-]*) (%d+) (%d+)\n') do
    if name == '-' and n <= tonumber(following) then
      seen = n
    elseif of == short(name) and n > start then
      seen = math.min(n, tonumber(last))
    end
    start = tonumber(following)
  end
  return seen
end
