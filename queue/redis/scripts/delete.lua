-- delete removes a queue with all that is in it.
--
-- ARGV: id; token of the call; the channel that tells of commits
-- Reply: 1 done, now or by the same call before; 0 the queue was deleted; -1 it
--   is not there and nobody deleted it. O(1): the memory is freed in another
--   thread of the server.
if call('HGET', meta, 'id') ~= ARGV[1] then
  if call('HGET', deleted, ARGV[1]) == ARGV[2] then
    call('HSET', deleted, 'again', '') -- a write for WAIT to wait for
    return {1}
  end
  return gone()
end
call('UNLINK', meta, reserved, intents, times, data, order, attempts, ended, before)
if call('HLEN', deleted) > 1000 then
  call('UNLINK', deleted)
end
call('HSET', deleted, ARGV[1], ARGV[2])
call('PEXPIRE', deleted, 604800000)
call('PUBLISH', ARGV[3], ARGV[1])
return {1}
