-- Release: lower the owner's hold count to what is left; free the lock at 0 and tell the waiters.
-- KEYS[1]  name                hash: owner -> hold count
-- ARGV[1]  owner               ARGV[2]  hold count after this call
-- ARGV[3]  PUBLISH or SPUBLISH ARGV[4]  channel; ARGV[3] empty: nobody is to be told
-- returns  {1, count} released down to count, now or before; {-1, 0} the owner's hold is gone
--          {2, text} freed, but the waiters could not be told
local owner, after = ARGV[1], tonumber(ARGV[2])
if after > 0 then
  local count = redis.call('HGET', KEYS[1], owner)
  if not count then
    redis.call('HDEL', KEYS[1], owner) -- changes nothing; a replica must not answer for the lock
    return {-1, 0}
  end
  if tonumber(count) > after then
    local set = redis.pcall('HSET', KEYS[1], owner, after)
    if type(set) == 'table' and set.err then
      -- Out of memory, probably. Redis refuses that only to a script that has written
      -- nothing yet, and PEXPIRE is never refused for it.
      local ttl = redis.call('PTTL', KEYS[1])
      if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end
      redis.call('HSET', KEYS[1], owner, after)
    end
  end
  return {1, after}
end

-- The owner's field is the only one: with it the key goes, whatever the count. Never refused for want of memory.
if redis.call('HDEL', KEYS[1], owner) == 0 then return {-1, 0} end
if ARGV[3] == '' then return {1, 0} end
local told = redis.pcall(ARGV[3], ARGV[4], '0')
if type(told) == 'table' and told.err then return {2, told.err} end
return {1, 0}
