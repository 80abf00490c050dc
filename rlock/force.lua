-- Force: free the lock whoever holds it, and tell the waiters.
-- KEYS[1]  name                hash: owner -> hold count
-- ARGV[1]  PUBLISH or SPUBLISH ARGV[2]  channel
-- returns  {1, 0} freed; {0, 0} nobody held it; {2, text} freed, but the waiters could not be told
-- A key of another type is an error of HLEN and stays.
if redis.call('HLEN', KEYS[1]) == 0 then
  redis.call('HDEL', KEYS[1], '') -- changes nothing; a replica must not answer for the lock
  return {0, 0}
end
redis.call('DEL', KEYS[1])
local told = redis.pcall(ARGV[1], ARGV[2], '0')
if type(told) == 'table' and told.err then return {2, told.err} end
return {1, 0}
