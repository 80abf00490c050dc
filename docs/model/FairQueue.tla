------------------------------ MODULE FairQueue ------------------------------
(* The fair lock's queue as it is built: fairlock/acquire.lua and release.lua, *)
(* the places of internal/engine/queue.go, and Redisson's waiters beside them. *)
(*                                                                             *)
(* Time is relative: a score is the ticks for which a place is still kept, 0   *)
(* when it may be dropped. A living waiter of ours renews its place every      *)
(* Every ticks, and tries when a renewal says that it is its turn: only these  *)
(* two are forced to happen before a Tick. A lock is renewed while its holder  *)
(* lives; trust windows are PlainLock's.                                       *)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS Go, Java, None,
          Lease,     \* of the lock
          Place,     \* a place's lease, the waiter lease (15 s); also what it is cut to
          Every,     \* how often a place is renewed
          Quota,     \* what a waiter of Redisson adds and takes off: 5 minutes with lock(), else its wait
          Five,      \* what we take a large one for: 5 minutes
          Silent,    \* TRUE: tries may be executed of which nothing is heard
          Limit,     \* TRUE: leave out what fairlock/doc.go says that it does not promise, see Excused
          Bug        \* a planted bug by name, or "none"

VARIABLES key,       \* the hash: [o: owner or None, t: ticks left]
          q, z,      \* the list; the sorted set as ticks left, None as -1
          w,         \* waiters: [st: idle, wait, held, undo, dead; due: ticks until its place is renewed; again: try now;
                     \* mixed: what it is to send as ARGV[6]; copy: a try is on its way of which nothing is known]
          idle       \* [who, n]: for n ticks the lock is free, and who of ours is the first living waiter
vars == <<key, q, z, w, idle>>

All == Go \cup Java
Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a > b THEN b ELSE a
Free == [o |-> None, t |-> 0]
Fresh == [st |-> "idle", due |-> 0, again |-> FALSE, mixed |-> TRUE, copy |-> FALSE]
Nobody == [who |-> None, n |-> 0]
In(s, x) == \E i \in 1..Len(s) : s[i] = x
Pos(s, x) == CHOOSE i \in 1..Len(s) : s[i] = x
Without(s, x) == SelectSeq(s, LAMBDA e : e # x)
Behind(s, x) == {e \in All : In(s, x) /\ In(s, e) /\ Pos(s, e) > Pos(s, x)}
Set(x, r) == w' = [w EXCEPT ![x] = r]

\* Stale heads have left without saying so. but: the caller, who is there.
RECURSIVE Drop(_, _, _)
Drop(s, zz, but) == IF s # <<>> /\ Head(s) # but /\ zz[Head(s)] = 0 /\ (Bug # "dead head stays" \/ but \in Java)
                    THEN Drop(Tail(s), [zz EXCEPT ![Head(s)] = -1], but) ELSE [q |-> s, z |-> zz]

(* --------------------------- fairlock/acquire.lua --------------------------- *)
\* For how much longer than its lease a place behind the first n of s is kept, and whether any of them is Redisson's.
Counted(quota, theirs) == IF quota <= Place THEN Max(quota, 0)
                          ELSE Place + (IF theirs THEN quota ELSE IF quota > Five + Place THEN 2 * quota ELSE Five)
RECURSIVE Look(_, _, _)
Look(s, zz, n) ==
  IF n = 0 THEN [mixed |-> FALSE, more |-> 0]
  ELSE LET l == Look(s, zz, n - 1)
           from == IF n = 1 THEN key.t ELSE zz[s[n-1]]
       IN CASE s[n] \in Java -> [mixed |-> TRUE, more |-> l.more + Counted(zz[s[n]] - from, n > 1 /\ s[n-1] \in Java)]
            [] l.mixed -> [l EXCEPT !.more = Max(@, zz[s[n]] - Place)]
            [] OTHER -> l
NoneOfTheirs(s, e) == In(s, e) /\ \A i \in 1..Pos(s, e) : s[i] \in Go
Cut(s, zz) == [e \in All |-> IF NoneOfTheirs(s, e) THEN Min(zz[e], Place) ELSE zz[e]]

\* What one call does, and what it says: got, wait, again (renewed, and it is its turn), gone (no place to renew).
Stand(x, renew) ==
  LET d == Drop(q, z, x)
      entered == ~In(d.q, x)
      s == IF entered THEN Append(d.q, x) ELSE d.q
      look == w[x].mixed \/ entered
      l == IF look THEN Look(s, d.z, Pos(s, x) - 1) ELSE [mixed |-> FALSE, more |-> 0]
      kept == IF l.mixed /\ ~entered THEN d.z[x] + (Every - w[x].due) ELSE 0   \* as allowed then, less what was taken off since
      last == IF d.q = <<>> THEN key.t ELSE d.z[d.q[Len(d.q)]]
      till == CASE Bug = "plain place" -> Place
                [] Bug = "place not renewed" /\ ~entered -> d.z[x]
                [] Bug = "chained places" -> IF entered THEN last + Place ELSE Max(d.z[x], Place)
                [] OTHER -> Max(Place + l.more, kept)
      scored == [d.z EXCEPT ![x] = till]
      answer == [key |-> key, q |-> d.q, z |-> d.z, says |-> "wait", mixed |-> l.mixed]
  IN CASE key.o = x -> [answer EXCEPT !.key.t = IF renew THEN @ ELSE Lease, !.says = IF renew THEN "again" ELSE "got"]
       [] key.o = None /\ ~renew /\ (d.q = <<>> \/ Head(d.q) = x \/ Bug = "free for all") ->
            [answer EXCEPT !.key = [o |-> x, t |-> Lease], !.q = Without(d.q, x), !.z[x] = -1, !.says = "got"]
       [] renew /\ entered -> [answer EXCEPT !.z[x] = IF Bug = "score without entry" THEN Place ELSE @, !.says = "gone"]
       [] OTHER -> [answer EXCEPT !.q = s, !.z = IF look /\ Bug # "chained places" THEN Cut(s, scored) ELSE scored,
                                  !.says = IF renew /\ key.o = None /\ Head(s) = x THEN "again" ELSE "wait"]
Did(a) == /\ key' = a.key /\ q' = a.q /\ z' = a.z
          /\ idle' = IF a.key.o = None /\ In(a.q, idle.who) THEN idle ELSE Nobody

(* --------------------------- ours: internal/engine/queue.go --------------------------- *)
Heard(x, a) == Set(x, CASE a.says = "got" -> [w[x] EXCEPT !.st = "held", !.due = 0, !.again = FALSE, !.mixed = TRUE]
                        [] a.says = "wait" -> [w[x] EXCEPT !.st = "wait", !.due = Every, !.again = FALSE, !.mixed = a.mixed]
                        [] OTHER -> [w[x] EXCEPT !.again = TRUE, !.due = Every])

\* fairlock/doc.go, "Places among Redisson's waiters": a quota of which most has been waited for looks smaller than it is.
Excused(x) == \E i \in 1..Len(q) : /\ q[i] \in Java /\ Quota > Place
                                   /\ LET left == z[q[i]] - IF i = 1 THEN key.t ELSE z[q[i-1]] IN
                                      left <= Place \/ (left <= Five + Place /\ Five < Quota)
Enter(x) == w[x].st = "idle" /\ ~(Limit /\ Excused(x)) /\ LET a == Stand(x, FALSE) IN Did(a) /\ Heard(x, a)
\* After a message or its timer. While others hold the lock a try does what a renewal does, so it is left out.
Try(x) == w[x].st = "wait" /\ key.o \in {None, x} /\ LET a == Stand(x, FALSE) IN Did(a) /\ Heard(x, a)
Renew(x) == w[x].st = "wait" /\ w[x].due = 0 /\ LET a == Stand(x, TRUE) IN Did(a) /\ Heard(x, a)

\* A try of which nothing is heard: it may be executed now, or much later, or never.
TrySilent(x) == Silent /\ w[x].st \in {"idle", "wait"} /\ ~w[x].copy /\ UNCHANGED <<key, q, z, idle>>
                /\ Set(x, [w[x] EXCEPT !.copy = TRUE, !.st = IF @ = "idle" THEN "undo" ELSE @])
Late(x) == w[x].copy /\ Did(Stand(x, FALSE)) /\ Set(x, [w[x] EXCEPT !.copy = FALSE])
LateRenewal(x) == w[x].st \in {"idle", "held", "undo"} /\ ~In(q, x) /\ key.o # x /\ Did(Stand(x, TRUE)) /\ UNCHANGED w

TryOnce(x) == w[x].st = "idle" /\ LET d == Drop(q, z, x) IN    \* a single attempt: it takes no place
  IF key.o = None /\ d.q = <<>> THEN Did([key |-> [o |-> x, t |-> Lease], q |-> d.q, z |-> d.z]) /\ Set(x, [w[x] EXCEPT !.st = "held"])
  ELSE Did([key |-> key, q |-> d.q, z |-> d.z]) /\ UNCHANGED w

(* fairlock/release.lua: whatever the owner has *)
Released(x) == LET d == Drop(Without(q, x), [z EXCEPT ![x] = -1], x)
               IN [key |-> IF key.o = x /\ ~(Bug = "leaves the queue only" /\ w[x].st # "held") THEN Free ELSE key, q |-> d.q, z |-> d.z]
Leave(x) == /\ w[x].st = "wait" \/ (w[x].st = "held" /\ key.o = x)                       \* gives up, or unlocks
            /\ IF Bug = "cancelled waiter stays" /\ w[x].st = "wait" THEN UNCHANGED <<key, q, z, idle>> ELSE Did(Released(x))
            /\ Set(x, IF w[x].copy THEN [Fresh EXCEPT !.st = "undo", !.copy = TRUE] ELSE Fresh)
Undo(x) == w[x].st = "undo" /\ Did(Released(x)) /\ Set(x, IF w[x].copy THEN w[x] ELSE Fresh)    \* until no copy is left
GiveUp(x) == w[x].st = "undo" /\ Set(x, [w[x] EXCEPT !.st = "dead"]) /\ UNCHANGED <<key, q, z, idle>>
Die(x) == w[x].st \in {"wait", "held"} /\ Set(x, [w[x] EXCEPT !.st = "dead", !.due = 0, !.again = FALSE, !.mixed = TRUE])
          /\ UNCHANGED <<key, q, z, idle>>
Recycle(x) == w[x].st = "dead" /\ ~In(q, x) /\ z[x] = -1 /\ key.o # x /\ ~w[x].copy /\ Set(x, Fresh) /\ UNCHANGED <<key, q, z, idle>>

(* --------------------------- Redisson's, by its scripts --------------------------- *)
JavaTry(j) == /\ w[j].st \in {"idle", "wait"}
  /\ LET d == Drop(q, z, None)
         last == IF d.q = <<>> THEN key.t ELSE d.z[d.q[Len(d.q)]] IN
     IF key.o = None /\ (d.q = <<>> \/ Head(d.q) = j)
     THEN /\ Did([key |-> [o |-> j, t |-> Lease], q |-> Without(d.q, j),
                  z |-> [e \in All |-> IF e = j THEN -1 ELSE IF d.z[e] >= 0 THEN Max(d.z[e] - Quota, 0) ELSE -1]])
          /\ Set(j, [w[j] EXCEPT !.st = "held"])
     ELSE /\ Did([key |-> key, q |-> IF In(d.q, j) THEN d.q ELSE Append(d.q, j),
                  z |-> IF In(d.q, j) THEN d.z ELSE [d.z EXCEPT ![j] = last + Quota]])
          /\ Set(j, [w[j] EXCEPT !.st = "wait"])
JavaAbandon(j) == /\ w[j].st = "wait" /\ Set(j, [w[j] EXCEPT !.st = "dead"])
  /\ Did([key |-> key, q |-> Without(q, j), z |-> [e \in All |-> IF e = j THEN -1 ELSE IF e \in Behind(q, j) THEN Max(z[e] - Quota, 0) ELSE z[e]]])
JavaUnlock(j) == /\ w[j].st = "held" /\ Set(j, [w[j] EXCEPT !.st = "dead"])
                 /\ LET d == Drop(q, z, None) IN Did([key |-> Free, q |-> d.q, z |-> d.z])

JavaBack(j) == w[j].st = "dead" /\ q = <<>> /\ Set(j, Fresh) /\ UNCHANGED <<key, q, z, idle>>   \* not before: scores would grow and grow

(* --------------------------- time --------------------------- *)
First == LET f == SelectSeq(q, LAMBDA x : w[x].st = "wait") IN IF f = <<>> THEN None ELSE Head(f)
Tick == /\ \A x \in Go : w[x].st = "wait" => w[x].due > 0 /\ ~w[x].again
        /\ key' = IF key.o # None /\ w[key.o].st = "held" THEN key ELSE IF key.t <= 1 THEN Free ELSE [key EXCEPT !.t = @ - 1]
        /\ z' = [x \in All |-> IF z[x] > 0 THEN z[x] - 1 ELSE z[x]]
        /\ w' = [x \in All |-> IF w[x].st = "wait" /\ x \in Go THEN [w[x] EXCEPT !.due = @ - 1] ELSE w[x]]
        /\ idle' = IF key.o = None /\ First \in Go THEN [who |-> First, n |-> IF idle.who = First THEN Min(idle.n + 1, 20) ELSE 1] ELSE Nobody
        /\ UNCHANGED q

Ours(x) == \/ Enter(x) \/ Try(x) \/ Renew(x) \/ TrySilent(x) \/ Late(x) \/ LateRenewal(x) \/ TryOnce(x)
           \/ Leave(x) \/ Undo(x) \/ GiveUp(x) \/ Die(x) \/ Recycle(x)
Init == key = Free /\ q = <<>> /\ z = [x \in All |-> -1] /\ w = [x \in All |-> Fresh] /\ idle = Nobody
Next == Tick \/ (\E x \in Go : Ours(x)) \/ (\E j \in Java : JavaTry(j) \/ JavaAbandon(j) \/ JavaUnlock(j) \/ JavaBack(j))
Spec == Init /\ [][Next]_vars
\* A waiter of Redisson that is dropped and comes back behind ours gets a score on top of theirs, so scores could grow for ever.
Small == \A x \in All : z[x] <= 12

(* --------------------------- what is promised: docs/guarantees.md --------------------------- *)
InStep == /\ \A x \in All : In(q, x) <=> z[x] >= 0             \* list and scores name the same, once each
          /\ Cardinality({q[i] : i \in 1..Len(q)}) = Len(q)
PlaceKept == \A x \in Go : w[x].st = "wait" => In(q, x) \/ key.o = x                       \* F1
\* F1: nobody who came later is before a living waiter of ours, in the queue or as holder.
Order == [][\A v \in Go, x \in All :
              v # x /\ In(q, v) /\ w[v].st = "wait" /\ w'[v].st = "wait" /\ (In(q, x) => Pos(q, x) > Pos(q, v))
              => /\ key'.o = x => key.o = x
                 /\ In(q', x) /\ In(q', v) => Pos(q', x) > Pos(q', v)]_vars
\* M5, F2: of one that has left, and has nothing on its way, nothing is left.
NothingLeft == \A x \in Go : w[x].st = "idle" => ~In(q, x) /\ z[x] = -1 /\ key.o # x
\* F2: any number of dead before the first living one cost one place's lease, and up to Every until somebody looks.
DeadCostOneLease == idle.n <= Place + Every

(* --------------------------- probes: each is to be violated --------------------------- *)
NeverTwoDead == ~(key.o = None /\ Len(q) = 3 /\ w[q[1]].st = "dead" /\ w[q[2]].st = "dead" /\ w[q[3]].st = "wait")
NeverWholeLease == idle.n < Place
NeverUnheard == ~\E x \in Go : w[x].st = "wait" /\ key.o = x
NeverTakenOff == ~\E x \in Go : w[x].st = "wait" /\ In(q, x) /\ Len(q) > 1 /\ key.o \in Java /\ z[x] >= Place
=============================================================================
