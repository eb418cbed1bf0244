-- reservations lists reservations, oldest time stamp first.
--
-- ARGV: id; time stamps from; and before; a reservation: it and those before it
--   that have the first time stamp are left out, or ''; how many at most
-- Reply: status, number, term, time; then id, time stamp and value of each, in
--   one flat array.
-- O(log n) and what has the first time stamp, and is returned.
local m = call('HMGET', meta, 'id', 'number', 'term')
if m[1] ~= ARGV[1] then
  return gone()
end
-- That is not as many as were returned before: some may have ended since.
local skip = 0
if ARGV[4] ~= '' then
  for _, id in ipairs(call('ZRANGEBYSCORE', times, ARGV[2], ARGV[2])) do
    if id <= ARGV[4] then
      skip = skip + 1
    end
  end
end
local found = call('ZRANGEBYSCORE', times, ARGV[2], '(' .. ARGV[3], 'WITHSCORES', 'LIMIT', skip, ARGV[5])
local ids, list = {}, {}
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
end
if #ids > 0 then
  local values = call('HMGET', reserved, unpack(ids))
  for i = 1, #ids do
    local value = values[i]
    if value and #value == 12 then
      value = value .. (call('HGET', intents, ids[i]) or '')
    end
    list[3 * i - 2], list[3 * i - 1], list[3 * i] = found[2 * i - 1], found[2 * i], value
  end
end
return {1, tonumber(m[2]), m[3], now(), list}
