-- Acquire: take the lock, or count one more hold for the owner that has it.
-- KEYS[1]  name                hash: owner -> hold count
-- ARGV[1]  lease, ms           ARGV[2]  owner          ARGV[3]  hold count before this call
-- returns  {1, count} acquired; {0, ttl ms} held by another owner (-1: without a TTL); {-1, 0} the owner's hold is gone
local owner, before = ARGV[2], tonumber(ARGV[3])
if not string.match(ARGV[1], '^[1-9]%d*$') or #ARGV[1] > 12 then
  return redis.error_reply('ERR lease must be a whole number of milliseconds of at most 12 digits, got ' .. ARGV[1])
end
local lease = ARGV[1] -- a string as it came: Redis takes time to write a number of Lua's

if before == 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], owner, '1')
  local set = redis.pcall('PEXPIRE', KEYS[1], lease)
  if type(set) == 'table' and set.err then
    redis.call('DEL', KEYS[1]) -- refused, by an ACL say: a lock without a lease would be immortal
    return set
  end
  return {1, 1}
end

local count = redis.call('HGET', KEYS[1], owner)
if count then
  -- The owner re-enters, or this call is executed once more. The count that it has
  -- reached is the same either way, because it is not counted from what is here.
  if not tonumber(count) then return redis.error_reply('ERR hash value is not an integer') end
  count = math.max(tonumber(count), before + 1)
  redis.call('HSET', KEYS[1], owner, count)
  if redis.call('PTTL', KEYS[1]) < tonumber(lease) then redis.call('PEXPIRE', KEYS[1], lease) end
  return {1, count}
end

-- Deleting a field that is not there changes nothing, but it is a write: a server
-- that refuses writes must say so here, not send waiters to sleep with a stale TTL.
redis.call('HDEL', KEYS[1], owner)
if before > 0 then return {-1, 0} end
return {0, redis.call('PTTL', KEYS[1])}
