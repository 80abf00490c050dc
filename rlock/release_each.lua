-- Release each: free several locks, each by itself, and tell the waiters of each.
-- KEYS[i]  name                hash: owner -> hold count
-- ARGV[1]  how many            and for each what release.lua is given: owner; 0; PUBLISH or SPUBLISH; channel
-- returns  {1, 0}              each freed
--          {0, answer, ...}    as those of release.lua: 0, which stands for {1, 0}; {-1, 0}; {2, text}; or the text of an error
local answers, alike = {0}, true
for i = 1, tonumber(ARGV[1]) do
  local freed, answer = redis.pcall('HDEL', KEYS[i], ARGV[4 * i - 2]), 0
  if freed == 0 then
    answer = {-1, 0}
  elseif type(freed) == 'table' then
    if string.find(freed.err, 'READONLY ', 1, true) then return freed end -- by a replica, and so are all
    answer = freed.err
  else
    local told = redis.pcall(ARGV[4 * i], ARGV[4 * i + 1], '0')
    if type(told) == 'table' and told.err then answer = {2, told.err} end
  end
  answers[i + 1] = answer
  alike = alike and answer == 0
end
return alike and {1, 0} or answers
