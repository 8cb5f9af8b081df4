---------------------------- MODULE Equivocation ----------------------------
(***************************************************************************)
(* A device that signs two histories.                                      *)
(*                                                                         *)
(* E is hostile, and the senior of the three: it has two branches, x and   *)
(* y, that both follow one entry, and shows either to whom it likes.  Its  *)
(* second entry on y may be a rotation, so that it tries to make that      *)
(* branch final itself.  A and B are honest; each edits on what it shows,  *)
(* rotates (its manifest names one branch of E, up to some entry), and     *)
(* suspends E once it holds both branches, with the proof and with a pin.  *)
(* A and B may rotate without knowing of each other.                       *)
(*                                                                         *)
(* An edit that stands on a branch cannot be shown on the other: its own   *)
(* device issues its content again.  A link's number in its chain is its   *)
(* place; which branch has the smaller id is open.                         *)
(*                                                                         *)
(* The rules are those of DESIGN 5 to 7, as mended (README.md).            *)
(*                                                                         *)
(* Left out: other removals (Counting.tla), relays (Rotation.tla), forks   *)
(* of roster operations (specs/roster.md 4), a third branch, documents.    *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    MaxX, MaxY,     \* entries of each branch of E; the second one on y is a rotation
    MaxA, MaxB,     \* links that A and B write, contents issued again not counted
    Edits,          \* whether A and B edit at all
    Broken          \* "none", or the rule that is broken: see Breaks

Breaks == {"none", "first_seen", "smallest_always", "forker_rotates", "pin_any_branch", "path_only"}
ASSUME Broken \in Breaks

VARIABLES
    chain,          \* chain -> its links; x and y are the branches of E
    smaller,        \* the branch with the smaller id
    know,           \* replica -> how much of each chain it holds
    view,           \* replica -> what it concluded
    first,          \* replica -> the branch that it saw first (used by a broken replica only)
    wasFinal        \* ghost: replica -> the branches that were ever final to it

vars == <<chain, smaller, know, view, first, wasFinal>>

Branch == {"x", "y"}
Replica == {"A", "B"}
Chains == Branch \cup Replica
Rank == [x |-> 1, y |-> 1, A |-> 2, B |-> 3]
Root == <<"x", 0>>
None == <<"none", 0>>       \* no branch: the frontier or pin stands below the fork
Vector(f(_)) == [x |-> f("x"), y |-> f("y"), A |-> f("A"), B |-> f("B")]
Zero == [x |-> 0, y |-> 0, A |-> 0, B |-> 0]
Max(S) == IF S = {} THEN 0 ELSE CHOOSE m \in S : \A n \in S : n <= m

(* H is what a replica holds: for each chain a prefix. *)
Prefixes(c, K) == LET F(d) == SubSeq(c[d], 1, K[d]) IN Vector(F)
Link(H, e) == H[e[1]][e[2]]
Of(H, d) == {<<d, n>> : n \in 1..Len(H[d])}
Kind(H, k) == {e \in UNION {Of(H, d) : d \in Chains} : Link(H, e).kind = k}
HonestEdits(H) == {e \in Kind(H, "edit") : e[1] \in Replica}

-----------------------------------------------------------------------------
(* The chosen epoch and its path, oldest first. *)

Parents(H, x) == IF x = Root THEN {} ELSE Link(H, x).parents
Covers(H, suspends, x) == IF x = Root THEN 0 ELSE
    Cardinality({s \in suspends : s = x \/ s[2] <= Link(H, x).knows[s[1]]})
Stale(H, suspends, x) == suspends # {} /\ (IF x = Root THEN TRUE ELSE Link(H, x).wrapsE)
Forker(H, x) ==
    Broken # "forker_rotates" /\ x # Root /\ x[1] \in Branch /\ Len(H["x"]) > 0 /\ Len(H["y"]) > 0

Better(H, suspends, x, y) ==
    LET coversX == Covers(H, suspends, x)
        coversY == Covers(H, suspends, y)
    IN  CASE Stale(H, suspends, x) # Stale(H, suspends, y) -> Stale(H, suspends, y)
          [] Forker(H, x) # Forker(H, y) -> Forker(H, y)
          [] coversX # coversY -> coversX > coversY
          [] Rank[x[1]] # Rank[y[1]] -> Rank[x[1]] < Rank[y[1]]
          [] OTHER -> x[2] < y[2]
Best(H, suspends, S) == CHOOSE x \in S : \A y \in S \ {x} : Better(H, suspends, x, y)

RECURSIVE Path(_, _, _)
Path(H, suspends, x) ==
    IF x = Root THEN <<>> ELSE Append(Path(H, suspends, Best(H, suspends, Parents(H, x))), x)

-----------------------------------------------------------------------------
(* What a replica concludes from H. *)

(* The oldest manifest on the path that names a branch decides; where none does, the best manifest off the path that
   names one; without any the smaller id. What E says of itself does not matter. *)
Deciding(H, suspends, path, guess) ==
    LET Names(x) == x[1] \in Replica /\ Link(H, x).front # None
        naming == {i \in 1..Len(path) : Names(path[i])}
        aside == {x \in Kind(H, "cut") : Names(x)}
        held == {b \in Branch : Len(H[b]) > 0}
    IN  CASE held = {} -> "none"
          [] Cardinality(held) = 1 -> CHOOSE b \in held : TRUE
          [] Broken = "smallest_always" -> guess
          [] naming # {} -> Link(H, path[CHOOSE i \in naming : \A j \in naming : i <= j]).front[1]
          [] aside # {} /\ Broken # "path_only" -> Link(H, Best(H, suspends, aside)).front[1]
          [] OTHER -> guess

Evaluate(H, guess) ==
    LET cuts == Kind(H, "cut")
        suspends == {c \in cuts : Link(H, c).suspend}
        epochs == {Root} \cup cuts
        tips == epochs \ UNION {Parents(H, x) : x \in epochs}
        path == Path(H, suspends, Best(H, suspends, tips))
        dec == Deciding(H, suspends, path, guess)
        On(S) == Max({Link(H, c).front[2] : c \in {p \in S : Link(H, p).front[1] = dec}})
        final == On({path[i] : i \in 1..Len(path)} \cap (Replica \X Nat))
        pin == Max({Link(H, c).pin[2] : c \in {s \in suspends : Link(H, s).pin[1] = dec}})
        standing == {f \in HonestEdits(H) : Link(H, f).on[1] \in {"none", dec}}
        beneath == Max({Link(H, f).on[2] : f \in standing})
        held == IF dec = "none" THEN 0 ELSE Len(H[dec])
        counts == {<<dec, n>> : n \in {k \in 1..held : suspends = {} \/ k <= pin \/ k <= final \/ k <= beneath}}
        pinned == IF Broken # "pin_any_branch" THEN {}
                  ELSE {<<Link(H, s).pin[1], n>> : s \in {t \in suspends : Link(H, t).pin[2] > 0}, n \in {1}}
    IN  [suspended |-> suspends # {}, tips |-> tips, path |-> path, dec |-> dec,
         final |-> final, solid |-> IF suspends = {} THEN held ELSE Max({pin, final}),
         shown |-> counts \cup pinned \cup standing]

Settle(r, e, H) ==
    LET seen == IF Broken = "first_seen" /\ first[r] = "none" /\ e[1] \in Branch THEN e[1] ELSE first[r]
        new == Evaluate(H, IF Broken = "first_seen" THEN seen ELSE smaller)
    IN  /\ know' = [know EXCEPT ![r][e[1]] = e[2]]
        /\ first' = [first EXCEPT ![r] = seen]
        /\ view' = [view EXCEPT ![r] = new]
        /\ wasFinal' = [wasFinal EXCEPT ![r] = IF new.final > 0 THEN @ \cup {new.dec} ELSE @]
        /\ UNCHANGED smaller

Write(d, link) ==
    LET n == Len(chain[d]) + 1
        c == [chain EXCEPT ![d] = Append(@, link)]
    IN  /\ chain' = c
        /\ Settle(d, <<d, n>>, Prefixes(c, [know[d] EXCEPT ![d] = n]))

Blank == [kind |-> "edit", knows |-> Zero, on |-> None, content |-> Root, suspend |-> FALSE, wrapsE |-> TRUE,
          pin |-> None, front |-> None, parents |-> {}]

-----------------------------------------------------------------------------
(* Actions. *)

(* E signs one more entry on a branch; the second one on y is a rotation, from the first epoch or from all tips. *)
SignE(b) ==
    /\ Len(chain[b]) < (IF b = "x" THEN MaxX ELSE MaxY)
    /\ LET n == Len(chain[b]) + 1
           whole == [d \in Chains |-> Len(chain[d])]
           epochs == {Root} \cup Kind(chain, "cut")
           tips == epochs \ UNION {Parents(chain, x) : x \in epochs}
       IN  \E link \in IF b = "y" /\ n = 2
                        THEN {[Blank EXCEPT !.kind = "cut", !.front = <<b, n>>, !.parents = {Root}],
                              [Blank EXCEPT !.kind = "cut", !.front = <<b, n>>, !.parents = tips,
                                            !.knows = [x |-> 0, y |-> 0, A |-> whole["A"], B |-> whole["B"]]]}
                        ELSE {Blank} :
            chain' = [chain EXCEPT ![b] = Append(@, link)]
    /\ UNCHANGED <<smaller, know, view, first, wasFinal>>

Own(d) == {n \in 1..Len(chain[d]) : chain[d][n].content = <<d, n>> \/ chain[d][n].kind = "cut"}
MayWrite(d) == Cardinality(Own(d)) < (IF d = "A" THEN MaxA ELSE MaxB)
Standpoint(v) == IF v.dec = "none" THEN None
                 ELSE LET n == Max({e[2] : e \in {s \in v.shown : s[1] = v.dec}}) IN IF n = 0 THEN None ELSE <<v.dec, n>>

EditBy(d) ==
    /\ Edits
    /\ MayWrite(d)
    /\ Write(d, [Blank EXCEPT !.knows = know[d], !.on = Standpoint(view[d]), !.content = <<d, Len(chain[d]) + 1>>])

(* Contents of d of which no form stands any more. *)
Lost(d, r) ==
    LET H == Prefixes(chain, know[r])
        by == {e \in HonestEdits(H) : e[1] = d}
    IN  {Link(H, e).content : e \in by} \ {Link(H, e).content : e \in by \cap view[r].shown}

IssueAgain(d) ==
    \E c \in Lost(d, d) : Write(d, [Blank EXCEPT !.knows = know[d], !.on = Standpoint(view[d]), !.content = c])

CutBy(d) ==
    /\ MayWrite(d)
    /\ \E suspend \in BOOLEAN :
        LET v == view[d]
            at == IF v.dec = "none" \/ v.solid = 0 THEN None ELSE <<v.dec, v.solid>>
        IN  /\ suspend => know[d]["x"] > 0 /\ know[d]["y"] > 0 /\ ~v.suspended
            /\ Write(d, [Blank EXCEPT !.kind = "cut", !.knows = know[d], !.suspend = suspend, !.parents = v.tips,
                                      !.wrapsE = ~(suspend \/ v.suspended), !.front = at,
                                      !.pin = IF suspend THEN at ELSE None])

Learn(r, d) ==
    /\ d # r
    /\ know[r][d] < Len(chain[d])
    /\ LET n == know[r][d] + 1
           link == chain[d][n]
       IN  /\ \A o \in Chains \ {d} : link.knows[o] <= know[r][o]
           /\ \A p \in link.parents : p[2] <= know[r][p[1]]
           /\ Settle(r, <<d, n>>, Prefixes(chain, [know[r] EXCEPT ![d] = n]))
    /\ UNCHANGED chain

Init ==
    /\ chain = [d \in Chains |-> <<>>]
    /\ smaller \in Branch
    /\ know = [r \in Replica |-> Zero]
    /\ first = [r \in Replica |-> "none"]
    /\ view = [r \in Replica |-> Evaluate(Prefixes(chain, Zero), "none")]
    /\ wasFinal = [r \in Replica |-> {}]

Next ==
    \/ \E b \in Branch : SignE(b)
    \/ \E d \in Replica : EditBy(d) \/ IssueAgain(d) \/ CutBy(d) \/ \E c \in Chains : Learn(d, c)
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must hold. *)

(* Replicas that hold the same have concluded the same. *)
Agreement == know["A"] = know["B"] => view["A"] = view["B"]

(* At most one branch of E counts. *)
OneBranch == \A r \in Replica : Cardinality({e[1] : e \in {s \in view[r].shown : s[1] \in Branch}}) <= 1

(* A final branch gives way only to a fork in which an honest rotator made the other one final. *)
FinalBranchStays ==
    \A r \in Replica : \A b \in wasFinal[r] \ {view[r].dec} :
        \E i \in 1..Len(view[r].path) :
            LET x == view[r].path[i] IN x[1] \in Replica /\ Link(chain, x).front[1] = view[r].dec

(* When all is known to all and nothing is left to issue again, every content of an honest device stands everywhere. *)
NothingLost ==
    (know["A"] = know["B"] /\ \A d \in Chains : know["A"][d] = Len(chain[d])) =>
        \A d \in Replica : Lost(d, d) = {} => \A r \in Replica : Lost(d, r) = {}

(* No content is issued more than twice: whatever branch decides in the end, one of the two stands. *)
NoFlapping ==
    \A d \in Replica : \A e \in HonestEdits(chain) : e[1] = d =>
        Cardinality({f \in HonestEdits(chain) : Link(chain, f).content = Link(chain, e).content}) <= 2
=============================================================================
