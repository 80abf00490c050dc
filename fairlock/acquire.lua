-- Acquire: take the lock if it is free and nobody stands before the owner; otherwise take a place in the queue, or renew it.
-- KEYS[1]  name                hash: owner -> hold count
-- KEYS[2]  queue               list: waiting owners, the next one first
-- KEYS[3]  timeout             sorted set: waiting owner -> until when it keeps its place, ms since 1970
-- ARGV[1]  owner
-- ARGV[2]  PUBLISH or SPUBLISH ARGV[3]  channel of a waiter, but for the owner at its end
-- ARGV[4]  lease, ms
-- ARGV[5]  waiter lease, ms: how long a place is kept without being renewed; 0: take no place
-- ARGV[6]  when the place was renewed last, as "now" was told then; 0: never
-- ARGV[7]  1: only renew the place, the lock is not wanted now; else 0
-- ARGV[8]  1: entries of Redisson may stand before the owner; 0: none can, unless it enters now
-- returns  {code, value, now us, position, length, mixed, entered}
--          code 1: acquired, value: hold count. 0: value: ms after which to ask again, if no message comes. -1: no place to renew.
--          position: 1 is the next one, 0 has no place. mixed: what to send as ARGV[8] next time. entered: 1 if this call decided the order
local name, queue, timeout, owner = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
for i = 4, 5 do
  if not string.match(ARGV[i], '^[1-9]%d*$') and (i == 4 or ARGV[i] ~= '0') or #ARGV[i] > 12 then
    return redis.error_reply('ERR lease must be a whole number of milliseconds of at most 12 digits, got ' .. ARGV[i])
  end
end
if not string.match(ARGV[6], '^%d+$') or #ARGV[6] > 16 then
  return redis.error_reply('ERR time must be a whole number of microseconds of at most 16 digits, got ' .. ARGV[6])
end
local lease, place, renew = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[7] == '1'
local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2]
local now = math.floor(us / 1000)

local function score(entry) return tonumber(redis.call('ZSCORE', timeout, entry)) end
local function keep(entry, till) redis.call('ZADD', timeout, string.format('%.0f', till), entry) end
-- Redisson's client id is a UUID of version 4, none of ours is.
local function redisson(entry)
  return string.sub(entry, 15, 15) == '4' and string.match(entry, '^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x:')
end

-- All that is read comes first. While a slot moves, a script runs where all of its keys
-- are; a key that it has emptied is not there any more, and asking for it is an error.
local held = redis.call('EXISTS', name) == 1
local count = held and redis.call('HGET', name, owner)
if count and not tonumber(count) then return redis.error_reply('ERR hash value is not an integer') end
local ttl = held and redis.call('PTTL', name) or 0
local length = redis.call('LLEN', queue)
local position = place > 0 and redis.call('LPOS', queue, owner)
local kept = score(owner)

-- Heads whose time is over have left without saying so; not the caller, it is there. Not
-- more in one call than take no time.
local dead = {}
local head
for _, entry in ipairs(redis.call('LRANGE', queue, 0, 32)) do
  head = entry
  if entry == owner or #dead == 32 or (score(entry) or 0) > now then break end
  dead[#dead + 1], head = entry, nil
end
local function drop()
  for _, entry in ipairs(dead) do
    redis.call('LPOP', queue)
    redis.call('ZREM', timeout, entry)
  end
  -- It is the first one now. Without the message its timer tells it.
  if not held and #dead > 0 and head and head ~= owner then redis.pcall(ARGV[2], ARGV[3] .. head, '0') end
  length = length - #dead
end

if count then
  -- An earlier copy of this call took the lock.
  drop()
  if renew then return {0, 0, us, 0, length, 0, 0} end
  redis.call('PEXPIRE', name, math.max(lease, ttl))
  return {1, tonumber(count), us, 0, length, 0, 0}
end

if not held and not renew and (not head or head == owner) then
  drop()
  if head then
    redis.call('LPOP', queue)
    redis.call('ZREM', timeout, owner)
    length = length - 1
  end
  redis.call('HSET', name, owner, 1)
  local set = redis.pcall('PEXPIRE', name, lease)
  if type(set) == 'table' and set.err then
    redis.call('DEL', name) -- refused, by an ACL say: a lock without a lease would be immortal
    return set
  end
  return {1, 1, us, 0, length, 0, position and 0 or 1}
end

if place == 0 or renew and not position then
  redis.call('HDEL', name, owner) -- changes nothing, but only a master may say that the lock is taken
  drop()
  if place == 0 then return {0, ttl, us, 0, length, 0, 0} end
  return {-1, 0, us, 0, length, 0, 0}
end

local entered = 0
if not position then
  redis.call('RPUSH', queue, owner)
  local set = redis.pcall('ZADD', timeout, string.format('%.0f', now + place), owner)
  if type(set) == 'table' and set.err then
    redis.call('LREM', queue, 0, owner) -- Redisson would wait for ever behind an entry without a score
    return set
  end
  position, length, entered, kept = length, length + 1, 1, nil
end
drop()
position = position - #dead + 1

-- A waiter of Redisson that is granted the lock, or gives up, takes its own quota off the
-- score of everybody behind it, so our place behind it is kept for that much longer.
-- Its quota is its score less its predecessor's. Where the predecessor is one of ours,
-- renewed since, or gone, that becomes less while it waits. Then a large one counts as
-- 5 minutes, what its lock() has, or twice if more than that is left. Who of ours came
-- before us may have seen more of it.
local mixed, allowed = 0, 0
if ARGV[8] == '1' or entered == 1 then
  local before, theirs = now + math.max(ttl, 0), false
  local entries = position > 1 and redis.call('LRANGE', queue, 0, position - 2) or {}
  for i, entry in ipairs(entries) do
    if redisson(entry) then
      mixed = 1
      if i > 1 then before, theirs = score(entries[i - 1]) or now, redisson(entries[i - 1]) end
      local quota = (score(entry) or now) - before
      if quota > place then
        if not theirs then quota = quota > 300000 + place and 2 * quota or 300000 end
        quota = quota + place
      end
      allowed = allowed + math.max(quota, 0)
    elseif mixed == 1 then
      allowed = math.max(allowed, (score(entry) or now) - now - place)
    end
  end
end
local till = now + place + allowed
if mixed == 1 and kept and tonumber(ARGV[6]) > 0 then
  -- What was allowed when it entered, less what was taken off since.
  till = math.max(till, kept + math.floor((us - ARGV[6]) / 1000))
end
keep(owner, till)

-- What those of ours that died have been allowed for is cut to a place's lease once
-- no waiter of Redisson is before them any more.
if ARGV[8] == '1' or entered == 1 then
  local most = now + math.max(place, 15000)
  local highest = redis.call('ZREVRANGE', timeout, 0, 0)[1]
  if score(highest) > most then
    for _, entry in ipairs(redis.call('LRANGE', queue, 0, 127)) do
      if redisson(entry) then break end
      if (score(entry) or 0) > most then keep(entry, most) end
    end
  end
end

-- The first one waits for the lock. Who stands behind waits until those before it
-- could all be dead: the first, and the one right before it.
local wait = ttl
if position > 1 then
  local before = redis.call('LINDEX', queue, position - 2)
  wait = math.max(wait, (score(head) or now) - now, (score(before) or now) - now)
end
return {0, wait, us, position, length, mixed, entered}
