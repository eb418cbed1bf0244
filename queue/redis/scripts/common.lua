-- Goes before every script of a queue.
--
-- KEYS, all in one hash slot, the same for every such script:
--   meta      HASH  id, capacity, what is counted, number, term, history, fence, wait, ended, check
--   reserved  HASH  reservation id -> size (8 bytes) and entries (4 bytes), big endian
--   intents   HASH  reservation id -> the intent
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
-- and the server's time.
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
-- the next begins after. A term comes again when a slot is moved and back.
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
  while #history > 4000 do
    history = string.match(history, '\n(.*)')
  end
  call('HSET', meta, 'term', id, 'number', number, 'history', history)
  return id, number
end
