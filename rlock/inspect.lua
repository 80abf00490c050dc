-- Inspect: tell whether the lock is held, for how long, and how often by one owner.
-- KEYS[1]  name                hash: owner -> hold count
-- ARGV[1]  owner, may be empty
-- returns  {ttl ms, count}     ttl -2: free, -1: held without a TTL
local count = redis.call('HGET', KEYS[1], ARGV[1])
return {redis.call('PTTL', KEYS[1]), tonumber(count) or 0}
