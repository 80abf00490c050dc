-- Acquire all: take several free locks, all or none. It does what acquire.lua does one after the other, and undo.lua.
-- The names must be distinct.
-- KEYS[i]  name                hash: owner -> hold count
-- ARGV[1]  how many            and for each what acquire.lua is given: lease, ms; owner; 0
-- returns  {1, 1}              all acquired, and the count of each is 1
--          {0, count, ...}     all acquired
--          {i, {0, ttl ms}}    the i-th is held by another owner, and none is taken
local n, lease, there, ttl = tonumber(ARGV[1]), '', {}, {}
for i = 1, n do
  if ARGV[3 * i - 1] ~= lease then
    lease = ARGV[3 * i - 1]
    if not string.match(lease, '^[1-9]%d*$') or #lease > 12 then
      return redis.error_reply('ERR lease must be a whole number of milliseconds of at most 12 digits, got ' .. lease)
    end
  end
end

for i = 1, n do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local count = redis.pcall('HGET', KEYS[i], ARGV[3 * i])
    there[i] = type(count) == 'string' and tonumber(count) -- then this call is executed once more
    if not there[i] then
      for j = 1, i - 1 do
        if there[j] then redis.call('HDEL', KEYS[j], ARGV[3 * j]) end
      end
      if type(count) == 'table' then return count end
      if count then return redis.error_reply('ERR hash value is not an integer') end
      redis.call('HDEL', KEYS[i], ARGV[3 * i]) -- changes nothing, but only a master may say that the lock is taken
      return {i, {0, redis.call('PTTL', KEYS[i])}}
    end
    ttl[i] = redis.call('PTTL', KEYS[i])
  end
end

local answers, alike = {0}, true
for i = 1, n do
  local count, lease = there[i] and math.max(there[i], 1), ARGV[3 * i - 1]
  local set = redis.pcall('HSET', KEYS[i], ARGV[3 * i], count or '1') -- also what is there: a replica must not confirm it
  if type(set) == 'number' and not (there[i] and ttl[i] >= tonumber(lease)) then set = redis.pcall('PEXPIRE', KEYS[i], lease) end
  if type(set) == 'table' then -- refused, by an ACL say
    for j = 1, i do redis.pcall('HDEL', KEYS[j], ARGV[3 * j]) end
    return set
  end
  answers[i + 1] = count or 1
  alike = alike and answers[i + 1] == 1
end
return alike and {1, 1} or answers
