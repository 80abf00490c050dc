------------------------------ MODULE PlainLock ------------------------------
(* The plain lock as it is built: one server that loses nothing, owners whose  *)
(* commands are late, lost or executed after nobody waits for them.            *)
(*                                                                             *)
(* Time is relative: the key has the ticks that are left of its lease, an      *)
(* owner those of its trust window and of its undo, a copy those since it was  *)
(* sent. Clients may be slow: nothing is ever forced to happen before a Tick.  *)
EXTENDS Naturals, FiniteSets, TLC

CONSTANTS Owners, Full,  \* Full: those that re-enter and renew; the others only lock and unlock
          None, Lease,   \* one lease for all, in ticks; the margin is 0
          MaxHolds, MaxNet,
          Bug            \* a planted bug by name, or "none"

VARIABLES key,           \* the hash: [o: owner or None, n: hold count, t: ticks left]
          net,           \* copies of commands on their way, or of their answers
          own            \* what the client knows of each owner, internal/engine/owner.go
vars == <<key, net, own>>

Max(a, b) == IF a > b THEN a ELSE b
Sub(a, b) == IF a > b THEN a - b ELSE 0
Min(a, b) == IF a > b THEN b ELSE a

\* st: idle, ask (first acquire), held, re (re-entering), in (inner Unlock), rel (last Unlock), over (its id is never used again)
\* live: holds that owe an Unlock; tl: ticks of trust left; had: it was a hold at some time; again: copies sent before in this call
\* u: ticks until the undo gives up, 0 if there is none; open, since, zeroed: see internal/engine/undo.go
\* gave: the undo gave up; cheat: was told a loss inside its window (no data is lost here, so never)
\* undone: an undo was started, so it is not handed over; only planted bugs set the other two: drop: an undo is about to
\* be started; heir: an undo of the owner before goes on
Fresh == [st |-> "idle", live |-> 0, tl |-> 0, had |-> FALSE, again |-> 0,
          u |-> 0, open |-> 0, since |-> FALSE, zeroed |-> FALSE, gave |-> FALSE, cheat |-> FALSE,
          undone |-> FALSE, drop |-> FALSE, heir |-> FALSE]
Free == [o |-> None, n |-> 0, t |-> 0]
Trusted(o) == own[o].live > 0 /\ own[o].tl > 0

\* Copies. k: acq; old (an acquire that its caller has left, its answer goes to the undo); ren; late (a renewal that nobody hears,
\* because the lock was handed over meanwhile); rel (Unlock waits for it);
\* stale (nobody waits for it); undo. n: the count before, or after. at: queue (waits for a lane), out, or the answer.
\* sure: a release that was sent when every acquire had been executed.
Copy(k, o, n) == [k |-> k, o |-> o, n |-> n, at |-> "out", age |-> 0, sure |-> FALSE]
Send(c) == net' = net \cup {c} /\ Cardinality(net \cup {c}) <= MaxNet
Mine(o, k) == {c \in net : c.o = o /\ c.k = k}
Turn(o, from, to) == (net \ Mine(o, from)) \cup {[c EXCEPT !.k = to, !.age = 0] : c \in Mine(o, from)}
Answered(o, k) == {c \in Mine(o, k) : c.at \notin {"queue", "out"}}

(* ------------------------------- the scripts ------------------------------- *)
Acquire(c) ==  \* rlock/acquire.lua
  CASE key.o = None /\ c.n = 0 -> <<[o |-> c.o, n |-> 1, t |-> Lease], "ok">>
    [] key.o = c.o -> <<[key EXCEPT !.n = IF Bug = "increment" THEN Min(@ + 1, MaxHolds + 1) ELSE Max(@, c.n + 1),
                                    !.t = Max(@, Lease)], "ok">>
    [] OTHER -> <<key, IF c.n = 0 THEN "taken" ELSE "gone">>
Release(c) ==  \* rlock/release.lua
  CASE key.o = None \/ (key.o # c.o /\ Bug # "release any owner") -> <<key, "gone">>
    [] Bug = "increment" -> <<IF key.n = 1 THEN Free ELSE [key EXCEPT !.n = @ - 1], "ok">>
    [] c.n > 0 -> <<[key EXCEPT !.n = Min(@, c.n)], "ok">>
    [] OTHER -> <<Free, "ok">>
Renewal(c) ==  \* rlock/renew.lua
  IF key.o = c.o \/ (Bug = "renew any owner" /\ key.o # None) THEN <<[key EXCEPT !.t = Max(@, Lease)], "ok">> ELSE <<key, "gone">>
Script(c) == CASE c.k \in {"acq", "old"} -> Acquire(c) [] c.k \in {"ren", "late"} -> Renewal(c) [] OTHER -> Release(c)

Awaited(c) == CASE c.k = "old" -> own[c.o].u > 0 [] c.k = "undo" -> own[c.o].u > 0 [] c.k \in {"stale", "late"} -> FALSE
                [] c.k = "ren" -> own[c.o].st # "over" [] OTHER -> TRUE
Execute == \E c \in net : /\ c.at = "out" /\ key' = Script(c)[1] /\ UNCHANGED own
                          /\ net' = (net \ {c}) \cup (IF Awaited(c) THEN {[c EXCEPT !.at = Script(c)[2]]} ELSE {})
Lose == \E c \in net : c.at # "queue" /\ net' = net \ {c} /\ UNCHANGED <<key, own>>  \* a command or an answer
Depart == \E c \in net : c.at = "queue" /\ net' = (net \ {c}) \cup {[c EXCEPT !.at = "out"]} /\ UNCHANGED <<key, own>>

Tick == /\ key' = IF key.t <= 1 THEN Free ELSE [key EXCEPT !.t = @ - 1]
        /\ net' = {IF c.k \in {"acq", "ren"} /\ c.at # "queue" THEN [c EXCEPT !.age = IF own[c.o].st = "over" THEN Lease ELSE Min(@ + 1, Lease)] ELSE c : c \in net}
        /\ own' = [o \in Owners |-> [own[o] EXCEPT !.tl = Sub(@, 1), !.u = Sub(@, 1),
                                                   !.gave = @ \/ (own[o].st = "over" /\ own[o].u = 1)]]

(* ------------------- first acquisition: internal/engine/single.go, acquire.go (try) ----------------- *)
Window(c) == IF Bug = "window from the answer" THEN Lease ELSE Sub(Lease, c.age)      \* owner.go, window

\* undo.go, undo: n copies of acquires whose outcome is unknown
Undo(r, n) == IF r.had /\ r.live = 0 THEN [r EXCEPT !.u = Lease, !.open = 0, !.since = FALSE]        \* any answer will end it
              ELSE [r EXCEPT !.u = Lease, !.open = Min(@ + n, 2), !.since = (n = 0), !.undone = (r.st # "over")]
Over(r) == [r EXCEPT !.st = "over", !.live = 0, !.tl = 0, !.again = 0, !.zeroed = FALSE, !.undone = FALSE]
Set(o, r) == own' = [own EXCEPT ![o] = r]

Ask(o) == /\ own[o].st = "idle" /\ UNCHANGED key
          /\ \E at \in {"queue", "out"} : Send([Copy("acq", o, 0) EXCEPT !.at = at])
          /\ Set(o, [own[o] EXCEPT !.st = "ask"])

AskAnswered(o) == \E c \in Answered(o, "acq") :
  /\ own[o].st = "ask" /\ net' = net \ {c} /\ UNCHANGED key
  /\ Set(o, CASE c.at = "taken" -> [own[o] EXCEPT !.st = "idle"]     \* a definite "taken" keeps the id
              [] Window(c) > 0 -> [own[o] EXCEPT !.st = "held", !.live = 1, !.tl = Window(c), !.had = TRUE]
              [] OTHER -> Undo(Over(own[o]), 0))                     \* errLate: missed

\* The caller's ctx ended, its patience did, or the connection broke. What waits for a lane is withdrawn (script/call.go,
\* Withdraw); what may have been sent is undone, and its owner is not used again.
AskGivenUp(o) == LET r == own[o]  queued == \E c \in Mine(o, "acq") : c.at = "queue" IN
  /\ r.st = "ask" /\ UNCHANGED key
  /\ IF queued
     THEN IF Bug = "withdrawn but sent" THEN net' = Turn(o, "acq", "old") /\ Set(o, Over(r)) ELSE net' = net \ Mine(o, "acq") /\ Set(o, Fresh)
     ELSE /\ net' = IF Bug = "late answer accepted" THEN net ELSE Turn(o, "acq", "old")
          /\ Set(o, CASE Bug = "no undo" -> Over(r)
                      [] Bug = "owner used again" -> [Undo(r, 1) EXCEPT !.st = "idle"]
                      [] Bug = "late answer accepted" -> Undo(r, 1)
                      [] OTHER -> Undo(Over(r), 1))

(* ------------------------------- the undo: internal/engine/undo.go ------------------------------- *)
UndoSends(o) == LET r == own[o] IN                                  \* undo.Renewal
  /\ r.u > 0 /\ UNCHANGED key
  /\ Send([Copy("undo", o, IF Bug = "undo of a re-entry to 0" \/ r.heir THEN 0 ELSE r.live) EXCEPT !.sure = r.since])
  /\ Set(o, [r EXCEPT !.zeroed = @ \/ (r.live = 0)])

UndoAnswered(o) == \E c \in Answered(o, "undo") : LET r == own[o]  known == c.sure /\ r.open = 0 IN   \* undo.Renewed
  /\ net' = net \ {c} /\ UNCHANGED key
  /\ Set(o, IF \/ c.at = "ok" /\ (c.n = 0 \/ (known /\ c.n = r.live))
               \/ c.at = "gone" /\ r.live = 0 /\ (r.had \/ known \/ Bug = "gone ends the undo")
            THEN [r EXCEPT !.u = 0, !.open = 0, !.since = FALSE] ELSE r)

OldAnswered(o) == \E c \in Answered(o, "old") : LET r == own[o]  left == Sub(r.open, 1) IN             \* undo.returned
  /\ UNCHANGED key
  /\ net' = {IF d.k = "undo" /\ d.o = o /\ c.at = "ok" THEN [d EXCEPT !.sure = FALSE] ELSE d : d \in net \ {c}}
  /\ Set(o, CASE r.u = 0 -> r
              [] c.at = "ok" -> [r EXCEPT !.open = left, !.since = TRUE]
              [] left = 0 /\ ~r.since -> [r EXCEPT !.open = 0, !.u = 0]
              [] OTHER -> [r EXCEPT !.open = left])

(* ------------------------------- renewal, lapse: internal/engine/owner.go ------------------------------- *)
Holding == {"held", "re", "in"}
Renew(o) == /\ o \in Full /\ own[o].st \in Holding /\ own[o].live > 0 /\ own[o].tl > 0
            /\ Send(Copy("ren", o, 0)) /\ UNCHANGED <<key, own>>

RenewAnswered(o) == \E c \in Answered(o, "ren") : LET r == own[o] IN
  /\ net' = net \ {c} /\ UNCHANGED key
  /\ Set(o, CASE r.st \notin Holding \cup {"rel"} -> r              \* about holds that have ended
              [] c.at = "ok" -> [r EXCEPT !.tl = Max(@, Window(c))]
              [] r.live = 0 -> r                                     \* isLeaving: its own release was first
              [] OTHER -> [Over(r) EXCEPT !.cheat = (r.tl > 0)])

Lapse(o) == /\ own[o].st \in Holding /\ own[o].tl = 0 /\ UNCHANGED key
            /\ net' = {IF c.o = o /\ c.k = "acq" THEN [c EXCEPT !.k = "old", !.age = 0]
                       ELSE IF c.o = o /\ c.k = "rel" THEN [c EXCEPT !.k = "stale"] ELSE c : c \in net}
            /\ Set(o, IF Bug = "lapsed hold stays" THEN Over(own[o]) ELSE Undo(Over(own[o]), 0))

(* ------------------------------- re-entry: internal/engine/reenter.go ------------------------------- *)
Reenter(o) == /\ o \in Full /\ own[o].st = "held" /\ own[o].live < MaxHolds /\ own[o].tl > 0 /\ UNCHANGED key
              /\ Send(Copy("acq", o, own[o].live)) /\ Set(o, [own[o] EXCEPT !.st = "re"])

ReenterAnswered(o) == \E c \in Answered(o, "acq") : LET r == own[o] IN
  /\ r.st = "re" /\ net' = net \ {c} /\ UNCHANGED key
  /\ IF c.at = "ok"
     THEN /\ Max(r.tl, Window(c)) > 0                                \* otherwise: Lapse
          /\ Set(o, [r EXCEPT !.st = "held", !.live = @ + 1, !.tl = Max(@, Window(c)), !.again = 0])
     ELSE Set(o, [Over(r) EXCEPT !.cheat = (r.tl > 0)])

ReenterGivenUp(o) == LET r == own[o] IN
  /\ r.st = "re" /\ r.tl > 0 /\ r.live > 0 /\ UNCHANGED key
  /\ \/ /\ r.again = 0                                               \* another copy, same owner, same count
        /\ net' = Turn(o, "acq", "old") \cup {Copy("acq", o, r.live)} /\ Cardinality(net') <= MaxNet
        /\ Set(o, [r EXCEPT !.again = 1])
     \/ /\ net' = Turn(o, "acq", "old")
        /\ Set(o, [Undo(r, 1 + r.again) EXCEPT !.st = "held", !.again = 0])

(* ------------------------------- Unlock: internal/engine/release.go ------------------------------- *)
Unlock(o) == LET r == own[o] IN
  /\ r.st = "held" /\ r.tl > 0 /\ UNCHANGED key
  /\ Send(Copy("rel", o, IF Bug = "after by level" THEN 0 ELSE r.live - 1))  \* planted: the outer hold sends its own level
  /\ Set(o, [r EXCEPT !.live = @ - 1, !.st = IF r.live = 1 THEN "rel" ELSE "in"])

\* Another goroutine's re-entry hangs, and Unlock does not wait for its turn any longer.
UnlockWithoutTurn(o) == LET r == own[o] IN
  /\ r.st = "re" /\ r.live = 1 /\ r.tl > 0 /\ UNCHANGED key
  /\ IF Bug = "re-entry after the last Unlock"
     THEN net' = net /\ Set(o, [Undo(r, 0) EXCEPT !.live = 0])
     ELSE net' = Turn(o, "acq", "old") /\ Set(o, Undo(Over(r), 0))

UnlockAnswered(o) == \E c \in Answered(o, "rel") : LET r == own[o]
    earlier == Bug = "gone is a loss" \/ (r.again = 0 /\ ~r.zeroed) IN        \* told: no earlier copy can have run
  /\ r.st \in {"in", "rel"} /\ net' = net \ {c} /\ UNCHANGED key
  /\ Set(o, CASE r.st = "in" /\ c.at = "ok" -> [r EXCEPT !.st = "held", !.again = 0]
              [] r.st = "in" -> [Over(r) EXCEPT !.cheat = (r.tl > 0)]
              [] OTHER -> [Over(r) EXCEPT !.cheat = (c.at = "gone" /\ earlier /\ r.tl > 0)])

UnlockGivenUp(o) == LET r == own[o] IN
  /\ r.st \in {"in", "rel"} /\ UNCHANGED key
  /\ \/ /\ r.again = 0
        /\ net' = Turn(o, "rel", "stale") \cup {Copy("rel", o, r.live)} /\ Cardinality(net') <= MaxNet
        /\ Set(o, [r EXCEPT !.again = 1])
     \/ /\ net' = Turn(o, "rel", "stale")
        /\ Set(o, Undo(IF r.st = "rel" THEN Over(r) ELSE [r EXCEPT !.st = "held", !.again = 0], 0))

(* --------------------- the hand-over: internal/engine/handover.go; drop: held.go --------------------- *)
\* The next hold goes on with the id, the window and the count of the one before: so nothing changes but who hears a renewal. How
\* long that goes on in a row bounds what others wait, and no promise here rests on it.
HandOver(o) == LET r == own[o] IN
  /\ o \in Full /\ r.st = "held" /\ r.live = 1 /\ r.tl > 0 /\ UNCHANGED key
  /\ ~r.undone \/ Bug = "handed over beside an undo"
  /\ net' = {IF c.o = o /\ c.k = "ren" THEN [c EXCEPT !.k = "late"] ELSE c :
              c \in {d \in net : ~(d.o = o /\ d.k = "ren" /\ d.at # "out")}}
  /\ Set(o, [r EXCEPT !.undone = FALSE, !.heir = (r.u > 0 \/ r.drop), !.tl = IF Bug = "window from the hand-over" THEN Lease ELSE @])

\* A multi lock gives an inner hold back, out of turn.
Drop(o) == LET r == [own[o] EXCEPT !.live = 1] IN
  /\ o \in Full /\ own[o].st = "held" /\ own[o].live = 2 /\ r.tl > 0 /\ UNCHANGED <<key, net>>
  /\ Set(o, IF Bug = "dropped, then undone" THEN [r EXCEPT !.drop = TRUE] ELSE Undo(r, 0))
DropUndone(o) == own[o].drop /\ UNCHANGED <<key, net>> /\ Set(o, [Undo(own[o], 0) EXCEPT !.drop = FALSE])

\* Ids are never used again. An owner of which nothing is left anywhere is as good as a new one.
Recycle(o) == /\ own[o].st = "over" /\ own[o].u = 0 /\ key.o # o /\ ~\E c \in net : c.o = o
              /\ Set(o, Fresh) /\ UNCHANGED <<key, net>>

Client(o) == \/ Ask(o) \/ AskAnswered(o) \/ AskGivenUp(o) \/ UndoSends(o) \/ UndoAnswered(o) \/ OldAnswered(o)
             \/ Renew(o) \/ RenewAnswered(o) \/ Lapse(o) \/ Reenter(o) \/ ReenterAnswered(o) \/ ReenterGivenUp(o)
             \/ Unlock(o) \/ UnlockWithoutTurn(o) \/ UnlockAnswered(o) \/ UnlockGivenUp(o) \/ Recycle(o)
             \/ HandOver(o) \/ Drop(o) \/ DropUndone(o)
Init == key = Free /\ net = {} /\ own = [o \in Owners |-> Fresh]
Next == Execute \/ Lose \/ Depart \/ Tick \/ \E o \in Owners : Client(o)
Spec == Init /\ [][Next]_vars
Sym == Permutations(Owners)

(* ------------------------------- what is promised: docs/guarantees.md ------------------------------- *)
Exclusion == \A o, p \in Owners : Trusted(o) /\ Trusted(p) => o = p                              \* M1
Owned == \A o \in Owners : Trusted(o) => key.o = o /\ key.t >= own[o].tl                         \* M1, M2: and so nobody else can
NoOrphan == \A o \in Owners : own[o].st \in {"idle", "over"} /\ key.o = o => own[o].u > 0 \/ own[o].gave   \* M5
NoFalseLoss == \A o \in Owners : ~own[o].cheat                                                   \* M4
Mortal == key.o # None => key.t \in 1..Lease                                                     \* M5: with the next one, the end of it

Quiet(o) == own[o].st = "held" /\ own[o].u = 0 /\ ~\E c \in net : c.o = o
Count == \A o \in Owners : Trusted(o) /\ Quiet(o) => key.n = own[o].live

(* ------------------------------- probes: each is to be violated ------------------------------- *)
NeverTwoHolds == ~\E o \in Owners : Trusted(o) /\ own[o].live = 2 /\ Mine(o, "ren") # {}
NeverOvertaken == ~\E c \in net : c.k = "undo" /\ c.at = "gone" /\ key.o = c.o    \* the undo's release was there before the acquire
NeverStale == ~\E c \in net : c.at = "out" /\ c.k \in {"stale", "undo"} /\ c.n = 0 /\ \E o \in Owners : o # c.o /\ Trusted(o)
NeverLateRenewal == ~\E c \in net : c.at = "out" /\ c.k = "ren" /\ \E o \in Owners : o # c.o /\ Trusted(o)
NeverUnheardRenewal == ~\E c \in net : c.k = "late" /\ Trusted(c.o) /\ own[c.o].live = 2
NeverGivenUp == ~(key.o # None /\ own[key.o].gave)
=============================================================================
