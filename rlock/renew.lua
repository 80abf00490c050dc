-- Renew: make the owner's lease at least this long from now. Never shortens it.
-- KEYS[1]  name                hash: owner -> hold count
-- ARGV[1]  lease, ms           ARGV[2]  owner
-- returns  {1, ttl ms} renewed; {-1, 0} the owner's hold is gone
if not string.match(ARGV[1], '^[1-9]%d*$') or #ARGV[1] > 12 then
  return redis.error_reply('ERR lease must be a whole number of milliseconds of at most 12 digits, got ' .. ARGV[1])
end
local lease = tonumber(ARGV[1])

if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[2]) -- changes nothing; a replica must not answer for the lock
  return {-1, 0}
end
-- Written also where the lease is long enough, so that only a master can confirm it.
lease = math.max(lease, redis.call('PTTL', KEYS[1]))
redis.call('PEXPIRE', KEYS[1], lease)
return {1, lease}
