-- Dispatch: run one operation, or a list of them, each with its own answer and error.
-- One:   KEYS and ARGV are the operation's own; after its arguments ARGV has its verb.
-- List:  KEYS are the keys of all, one after the other. ARGV is for each operation its verb, the number
--        of its keys, the number of its arguments and its arguments; the last one of all is empty.
-- An operation with the verb "all" has others in its arguments, see all.
-- returns  for each operation what its script returns (an array), or the text of its error (a string)
local all

local function attempt(verb, keys, args)
  local _, answer
  if verb == 'all' then answer = all(keys, args) else _, answer = pcall(run, verb, keys, args) end
  if type(answer) == 'table' and answer.err then answer = answer.err end
  return answer
end

local function slice(list, from, n)
  local part = {}
  for i = 1, n do part[i] = list[from + i] end
  return part
end

-- All: run operations until one does not answer {1, ...}; then take back those before it.
-- keys are theirs, one after the other. args is for each its verb, the verb that takes it back, the number of its keys,
-- of its arguments and of those of the other verb, and all these arguments.
-- returns  {0, answer, ...}; {number of the one that was not possible, its answer}; or the text of its error
function all(keys, args)
  local answers, back = {0}, {}
  local key, arg = 0, 0
  while args[arg + 5] do -- alone in its call it has its own verb after these
    local nkeys, ndo, nundo = tonumber(args[arg + 3]), tonumber(args[arg + 4]), tonumber(args[arg + 5])
    local theirs = slice(keys, key, nkeys)
    local answer = attempt(args[arg + 1], theirs, slice(args, arg + 5, ndo))
    if type(answer) ~= 'table' or answer[1] ~= 1 then
      for i = #back, 1, -1 do attempt(back[i].verb, back[i].keys, back[i].args) end
      if type(answer) ~= 'table' then return answer end
      return {#answers, answer}
    end
    answers[#answers + 1] = answer
    back[#back + 1] = {verb = args[arg + 2], keys = theirs, args = slice(args, arg + 5 + ndo, nundo)}
    key, arg = key + nkeys, arg + 5 + ndo + nundo
  end
  return answers
end

local answers = {}
if ARGV[#ARGV] ~= '' then
  answers[1] = attempt(ARGV[#ARGV], KEYS, ARGV)
else
  local key, arg = 0, 0
  while arg < #ARGV - 1 do
    local nkeys, nargs = tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
    answers[#answers + 1] = attempt(ARGV[arg + 1], slice(KEYS, key, nkeys), slice(ARGV, arg + 3, nargs))
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
