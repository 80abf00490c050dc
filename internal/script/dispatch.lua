-- Dispatch: run one operation, or a list of them, each with its own answer and error.
-- One:   KEYS and ARGV are the operation's own; after its arguments ARGV has its verb.
-- List:  KEYS are the keys of all, one after the other. ARGV is for each operation its verb, the number
--        of its keys, the number of its arguments and its arguments; the last one of all is empty.
-- returns  for each operation what its script returns (an array), or the text of its error (a string)
local function attempt(verb, keys, args)
  local _, answer = pcall(run, verb, keys, args)
  if type(answer) == 'table' and answer.err then answer = answer.err end
  return answer
end

local answers = {}
if ARGV[#ARGV] ~= '' then
  answers[1] = attempt(ARGV[#ARGV], KEYS, ARGV)
else
  local key, arg = 0, 0
  while arg < #ARGV - 1 do
    local nkeys, nargs = tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
    local keys, args = {}, {}
    for i = 1, nkeys do keys[i] = KEYS[key + i] end
    for i = 1, nargs do args[i] = ARGV[arg + 3 + i] end
    answers[#answers + 1] = attempt(ARGV[arg + 1], keys, args)
    key, arg = key + nkeys, arg + 3 + nargs
  end
end

for _, answer in ipairs(answers) do
  if type(answer) == 'string' and string.find(answer, 'READONLY ', 1, true) then
    -- Nothing of this call can have been written. As the call's own error it makes
    -- the client leave this connection and look for the master.
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
end
return answers
