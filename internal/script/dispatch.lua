-- Dispatch: run a list of operations, each with its own keys, arguments, answer and error.
-- KEYS  the keys of all operations, one after the other
-- ARGV  for each operation: its verb, the number of its keys, the number of its arguments, its arguments
-- returns  for each operation what its script returns (an array), or the text of its error (a string)
local answers, key, arg = {}, 0, 0
while arg < #ARGV do
  local verb, nkeys, nargs = verbs[ARGV[arg + 1]], tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
  local keys, args = {}, {}
  for i = 1, nkeys do keys[i] = KEYS[key + i] end
  for i = 1, nargs do args[i] = ARGV[arg + 3 + i] end
  key, arg = key + nkeys, arg + 3 + nargs

  local _, answer = pcall(verb, keys, args)
  if type(answer) == 'table' and answer.err then answer = answer.err end
  if type(answer) == 'string' and string.find(answer, 'READONLY ', 1, true) then
    -- Nothing of this call can have been written. As the call's own error it makes
    -- the client leave this connection and look for the master.
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
  answers[#answers + 1] = answer
end
return answers
