-- Release: free the lock or leave the queue, whatever the owner has, and tell who is next.
-- KEYS[1]  name                hash: owner -> hold count
-- KEYS[2]  queue               list: waiting owners, the next one first
-- KEYS[3]  timeout             sorted set: waiting owner -> until when it keeps its place, ms since 1970
-- ARGV[1]  owner; empty: free the lock whoever holds it
-- ARGV[2]  PUBLISH or SPUBLISH ARGV[3]  channel of a waiter, but for the owner at its end
-- returns  {1, 0} freed or left; {-1, 0} the owner had neither lock nor place; {0, 0} nobody held the lock (forced)
--          {2, text} freed or left, but the next one could not be told
local name, queue, timeout, owner = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local forced = owner == ''
local holds
if forced then holds = redis.call('HLEN', name) > 0 else holds = redis.call('HGET', name, owner) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local dropped = 0
local head = redis.call('LINDEX', queue, 0)
local first = head
while head and dropped < 32 and (tonumber(redis.call('ZSCORE', timeout, head)) or 0) <= now do
  redis.call('LPOP', queue)
  redis.call('ZREM', timeout, head)
  dropped = dropped + 1
  head = redis.call('LINDEX', queue, 0)
end

local left = not forced and redis.call('ZREM', timeout, owner) == 1
if left then redis.call('LREM', queue, 0, owner) end
if holds then redis.call('DEL', name) end -- never refused for want of memory
if not holds and not left then
  redis.call('HDEL', name, owner) -- changes nothing; a replica must not answer for the lock
end

-- Who was the first one before has been told before.
head = redis.call('LINDEX', queue, 0)
if head and (holds or head ~= first) and redis.call('EXISTS', name) == 0 then
  local told = redis.pcall(ARGV[2], ARGV[3] .. head, '0')
  if (holds or left) and type(told) == 'table' and told.err then return {2, told.err} end
end
if not holds and not left then return {forced and 0 or -1, 0} end
return {1, 0}
