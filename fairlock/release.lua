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
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- All that is read comes first, see acquire.lua.
local held = redis.call('HLEN', name) > 0
local holds = held and (forced or redis.call('HGET', name, owner))
local waits = not forced and redis.call('ZSCORE', timeout, owner)
local dead = {}
local first, head
for i, entry in ipairs(redis.call('LRANGE', queue, 0, 33)) do
  if i == 1 then first = entry end
  if entry == owner then
    waits = true
  else
    head = entry
    if #dead == 32 or (tonumber(redis.call('ZSCORE', timeout, entry)) or 0) > now then break end
    dead[#dead + 1], head = entry, nil
  end
end

if waits then
  redis.call('ZREM', timeout, owner)
  redis.call('LREM', queue, 0, owner)
end
for _, entry in ipairs(dead) do
  redis.call('LPOP', queue)
  redis.call('ZREM', timeout, entry)
end
if holds then
  redis.call('DEL', name) -- never refused for want of memory
elseif not waits then
  redis.call('HDEL', name, owner) -- changes nothing; a replica must not answer for the lock
end

-- Who was the first one before has been told before.
local told = head and (holds or not held and head ~= first) and redis.pcall(ARGV[2], ARGV[3] .. head, '0')
if not holds and not waits then return {forced and 0 or -1, 0} end
if type(told) == 'table' and told.err then return {2, told.err} end
return {1, 0}
