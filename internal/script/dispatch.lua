-- Dispatch: run one operation, or a list of them, each with its own answer and error.
-- One:   KEYS and ARGV are the operation's own; after its arguments ARGV has its verb.
-- List:  KEYS are the keys of all, one after the other. ARGV is for each operation its verb, the number
--        of its keys, the number of its arguments and its arguments; the last one of all is empty.
-- An operation with the verb "all" has others in its arguments, see all.
-- returns  of one: its answer
--          of a list: an array of their answers
-- An answer is what the operation's script returns, an array that begins with a number; but {1, n} is returned as the number n, which
-- Redis writes in a quarter of the time. It is the text of an error (a string) in place of that.
-- run(verb, KEYS, K, ARGV, A) is above: the operation's keys begin after KEYS[K], its arguments after ARGV[A].
local verb = ARGV[#ARGV]
local replica = "READONLY You can't write against a read only replica." -- as the call's own error it makes the client look for the master

if verb ~= '' and verb ~= 'all' then
  -- Mostly it is one. What the others need is not made for it: Redis would make it anew in every call.
  local _, answer = pcall(run, verb, KEYS, 0, ARGV, 0)
  if type(answer) == 'table' then
    if answer[1] == 1 and not answer[3] and type(answer[2]) == 'number' then return answer[2] end
    if not answer.err then return answer end
    answer = answer.err
  end
  if type(answer) == 'string' and string.find(answer, 'READONLY ', 1, true) then return redis.error_reply(replica) end
  return answer
end

local KEYS, ARGV, pcall, type = KEYS, ARGV, pcall, type
local refused = false -- by a replica: nothing of this call can have been written

local function attempt(verb, key, arg)
  local _, answer = pcall(run, verb, KEYS, key, ARGV, arg)
  if type(answer) == 'table' then
    if answer[1] == 1 and not answer[3] and type(answer[2]) == 'number' then return answer[2] end
    if not answer.err then return answer end
    answer = answer.err
  end
  refused = refused or type(answer) == 'string' and string.find(answer, 'READONLY ', 1, true)
  return answer
end

-- All: run operations until one does not answer {1, ...}; then take back those before it, in reverse.
-- Their keys begin after KEYS[key], one after the other. ARGV has, from arg + 1 to last, for each its verb, the
-- verb that takes it back, the number of keys and of arguments, which both verbs have, and the arguments.
-- returns  n, if each answered {1, n}; {0, answer, ...}; {number of the one that was not possible, its answer}; or the text of its error
local function all(key, arg, last)
  local answers, starts, alike = {0}, {}, true
  while arg < last do
    local n = #answers
    starts[n] = arg
    local answer = attempt(ARGV[arg + 1], key, arg + 4)
    if type(answer) ~= 'number' and (type(answer) ~= 'table' or answer[1] ~= 1) then
      for i = n - 1, 1, -1 do
        arg = starts[i]
        key = key - ARGV[arg + 3]
        attempt(ARGV[arg + 2], key, arg + 4)
      end
      if type(answer) == 'string' then return answer end
      return {n, answer}
    end
    answers[n + 1] = answer
    alike = alike and answer == answers[2]
    key, arg = key + ARGV[arg + 3], arg + 4 + ARGV[arg + 4]
  end
  return alike and type(answers[2]) == 'number' and answers[2] or answers
end

local answers, last = {}, #ARGV - 1
if verb == 'all' then
  answers = all(0, 0, last)
else
  local key, arg = 0, 0
  while arg < last do
    local nkeys, nargs = ARGV[arg + 2], ARGV[arg + 3]
    arg = arg + 3
    if ARGV[arg - 2] == 'all' then
      answers[#answers + 1] = all(key, arg, arg + nargs)
    else
      answers[#answers + 1] = attempt(ARGV[arg - 2], key, arg)
    end
    key, arg = key + nkeys, arg + nargs
  end
end
if refused then return redis.error_reply(replica) end
return answers
