-- Dispatch: run one operation, or a list of them, each with its own answer and error.
-- One:   KEYS and ARGV are the operation's own; after its arguments ARGV has its verb.
-- List:  KEYS are the keys of all, one after the other. ARGV is for each operation its verb, the number
--        of its keys, the number of its arguments and its arguments; the last one of all is empty.
-- An operation with the verb "all" has others in its arguments, see all.
-- returns  of one: what its script returns (an array that begins with a number)
--          of a list or an "all": an array of what each script returns
--          the text of an error (a string) in place of what a script returns; of one: an array of it
local verb = ARGV[#ARGV]
local answers = {}

if verb ~= '' and verb ~= 'all' then
  -- Mostly it is one. What the others need is not made for it: Redis would make it anew in every call.
  local _, answer = pcall(run, verb, KEYS, ARGV)
  if type(answer) == 'table' then
    if not answer.err then return answer end
    answer = answer.err
  end
  answers[1] = answer
else
  local KEYS, ARGV, pcall, type, unpack = KEYS, ARGV, pcall, type, unpack

  local function attempt(verb, keys, args)
    local _, answer = pcall(run, verb, keys, args)
    if type(answer) == 'table' and answer.err then return answer.err end
    return answer
  end

  -- All: run operations until one does not answer {1, ...}; then take back those before it, in reverse.
  -- Their keys are those of KEYS after the one numbered key, one after the other. ARGV has, from arg + 1 to last, for each its
  -- verb, the verb that takes it back, the number of its keys, of its arguments and of those of the other verb, and all these arguments.
  -- returns  {0, answer, ...}; {number of the one that was not possible, its answer}; or the text of its error
  local function all(key, arg, last)
    local answers, starts = {0}, {}
    while arg < last do
      local n = #answers
      starts[n] = arg
      local answer = attempt(ARGV[arg + 1], {unpack(KEYS, key + 1, key + ARGV[arg + 3])}, {unpack(ARGV, arg + 6, arg + 5 + ARGV[arg + 4])})
      if type(answer) ~= 'table' or answer[1] ~= 1 then
        for i = n - 1, 1, -1 do
          arg = starts[i]
          local undo = arg + 5 + ARGV[arg + 4]
          key = key - ARGV[arg + 3]
          attempt(ARGV[arg + 2], {unpack(KEYS, key + 1, key + ARGV[arg + 3])}, {unpack(ARGV, undo + 1, undo + ARGV[arg + 5])})
        end
        if type(answer) ~= 'table' then return answer end
        return {n, answer}
      end
      answers[n + 1] = answer
      key, arg = key + ARGV[arg + 3], arg + 5 + ARGV[arg + 4] + ARGV[arg + 5]
    end
    return answers
  end

  local last = #ARGV
  if verb == 'all' then
    answers[1] = all(0, 0, last - 1)
  else
    local key, arg = 0, 0
    while arg < last - 1 do
      local nkeys, nargs = ARGV[arg + 2], ARGV[arg + 3]
      if ARGV[arg + 1] == 'all' then
        answers[#answers + 1] = all(key, arg + 3, arg + 3 + nargs)
      else
        answers[#answers + 1] = attempt(ARGV[arg + 1], {unpack(KEYS, key + 1, key + nkeys)}, {unpack(ARGV, arg + 4, arg + 3 + nargs)})
      end
      key, arg = key + nkeys, arg + 3 + nargs
    end
  end
end

for i = 1, #answers do
  local answer = answers[i]
  if type(answer) == 'string' and string.find(answer, 'READONLY ', 1, true) then
    -- Nothing of this call can have been written. As the call's own error it makes
    -- the client leave this connection and look for the master.
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
end
return answers
