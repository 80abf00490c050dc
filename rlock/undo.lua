-- Undo: take an acquire back in the same call, before anybody has seen it. Nobody is told.
-- KEYS[1]  name                hash: owner -> hold count
-- ARGV[1]  lease, ms           ARGV[2]  owner          ARGV[3]  hold count before the acquire
-- returns  {1, 0}              the lease of a hold that was there before stays as long as it was made
if ARGV[3] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[2]) -- the only field: with it the key goes
else
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
end
return {1, 0}
