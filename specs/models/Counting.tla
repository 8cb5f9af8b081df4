------------------------------ MODULE Counting ------------------------------
(***************************************************************************)
(* Which document entries count, when devices are removed while others     *)
(* write and rotate without knowing of it.                                 *)
(*                                                                         *)
(* Three devices of three members: A (the senior admin), B (a junior       *)
(* admin), R (hostile: it may claim to know nothing, and goes on writing   *)
(* after it was removed).  Each has one chain of links.  A link is an      *)
(* edit, or a cut: a removal of some devices and the rotation that is      *)
(* written with it (a cut of nobody is a plain rotation).  What a replica  *)
(* holds is one number for each chain, so every set of entries that a      *)
(* replica can hold, and every order of arrival, is a path in this model.  *)
(*                                                                         *)
(* Chosen epoch, epoch path, pins, finality, the ancestors clause and the  *)
(* least fixpoint are those of DESIGN 6 and 7, as mended (README.md).      *)
(*                                                                         *)
(* Two documents: R's even links edit x, its odd ones y, so that an entry  *)
(* can count by the ancestors clause without the one before it.  B edits   *)
(* x, on all that it shows there.                                          *)
(*                                                                         *)
(* Left out: forks of a chain (Equivocation.tla), relays (Rotation.tla),   *)
(* the order of reducing operations beyond one senior (specs/roster.md,    *)
(* property tests), owned documents, the bytes of everything.              *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Colluders,      \* {} or {"B"}: B builds on R's late entries although it knows of the removal
    Removable,      \* whom cuts may remove: {"R"} or {"B", "R"}
    MaxA, MaxB, MaxR,   \* links of each chain
    Broken          \* "none", or the rule that is broken: see Breaks

Breaks == {"none", "arrival_pin", "no_ancestors", "join_frontier", "pin_last_counted"}
ASSUME Broken \in Breaks

VARIABLES
    chain,          \* device -> its links
    know,           \* replica -> how much of each chain it holds
    view,           \* replica -> what it concluded, kept up as links arrive; shown are the edits that count
    lastPin,        \* replica -> the pin of the removal that arrived last (used by a broken replica only)
    legit,          \* ghost: honest replica -> R's links that it held while it took R for valid
    wasFinal        \* ghost: replica -> the edits that were ever final to it

vars == <<chain, know, view, lastPin, legit, wasFinal>>

Dev == {"A", "B", "R"}
Replica == {"A", "B"}
Honest == Replica \ Colluders
Rank == [A |-> 1, B |-> 2, R |-> 3]
Root == <<"A", 0>>      \* the epoch of create; any other epoch is named by its cut
Vector(f(_)) == [A |-> f("A"), B |-> f("B"), R |-> f("R")]      \* a record: TLC computes it once
Zero == [A |-> 0, B |-> 0, R |-> 0]
Max(S) == IF S = {} THEN 0 ELSE CHOOSE m \in S : \A n \in S : n <= m

(* From here on H is what a replica holds: for each device a prefix of its chain. *)
Prefixes(c, K) == LET F(d) == SubSeq(c[d], 1, K[d]) IN Vector(F)
Link(H, e) == H[e[1]][e[2]]
Of(H, d) == {<<d, n>> : n \in 1..Len(H[d])}
Held(H) == UNION {Of(H, d) : d \in Dev}
Edits(H) == {e \in Held(H) : Link(H, e).kind = "edit"}

-----------------------------------------------------------------------------
(* The roster: A's cuts count; B's do unless A cut B below them. *)

CutsBy(H, d) == {e \in Of(H, d) : Link(H, e).kind = "cut"}
PinIn(H, S, d) == Max({Link(H, e).pins[d] : e \in {c \in S : d \in Link(H, c).targets}})
OutIn(H, S, d) == \E e \in S : d \in Link(H, e).targets

Counted(H) ==
    LET a == CutsBy(H, "A")
        outB == OutIn(H, a, "B")
        pinB == PinIn(H, a, "B")
    IN  a \cup {e \in CutsBy(H, "B") : ~outB \/ e[2] <= pinB}

-----------------------------------------------------------------------------
(* The chosen epoch, and the path of chosen parents that leads to it. *)

Recipients(H, x) == IF x = Root THEN Dev ELSE Link(H, x).recipients
Parents(H, x) == IF x = Root THEN {} ELSE Link(H, x).parents
Frontier(H, x) == IF x = Root THEN Zero ELSE Link(H, x).front
Past(H, x) == IF x = Root THEN Zero ELSE [Link(H, x).knows EXCEPT ![x[1]] = x[2]]
Covers(H, counted, x) == Cardinality({e \in counted : Link(H, e).targets # {} /\ e[2] <= Past(H, x)[e[1]]})
Stale(H, out, x) == Recipients(H, x) \cap out # {}

Better(H, counted, out, x, y) ==
    LET outX == x # Root /\ x[1] \in out
        outY == y # Root /\ y[1] \in out
        coversX == Covers(H, counted, x)
        coversY == Covers(H, counted, y)
    IN  CASE Stale(H, out, x) # Stale(H, out, y) -> Stale(H, out, y)
          [] outX # outY -> outY
          [] coversX # coversY -> coversX > coversY
          [] Rank[x[1]] # Rank[y[1]] -> Rank[x[1]] < Rank[y[1]]
          [] OTHER -> x[2] < y[2]
Best(H, counted, out, S) ==
    IF Cardinality(S) = 1 THEN CHOOSE x \in S : TRUE
    ELSE CHOOSE x \in S : \A y \in S \ {x} : Better(H, counted, out, x, y)

RECURSIVE Path(_, _, _, _)
Path(H, counted, out, x) ==
    IF Parents(H, x) = {} THEN {x}
    ELSE {x} \cup Path(H, counted, out, Best(H, counted, out, Parents(H, x)))

FinalOn(H, path, d) == Max({Frontier(H, x)[d] : x \in path})

-----------------------------------------------------------------------------
(* Counting: the pure function of what is held. *)

Beneath(H, e) == IF Broken = "no_ancestors" THEN {} ELSE Link(H, e).anc
CountsAlone(e, out, pin, final) == e[1] \notin out \/ e[2] <= pin[e[1]] \/ e[2] <= final[e[1]]

(* All that a replica concludes from H. Not one clause asks in which order H came. *)
EvaluateWith(H, override, pins) ==
    LET counted == Counted(H)
        out == {d \in Dev : OutIn(H, counted, d)}
        PinOf(d) == PinIn(H, counted, d)
        pin == IF override THEN pins ELSE Vector(PinOf)
        epochs == {Root} \cup counted
        tips == epochs \ UNION {Parents(H, x) : x \in epochs}
        chosen == Best(H, counted, out, tips)
        path == Path(H, counted, out, chosen)
        FinalOf(d) == FinalOn(H, path, d)
        final == Vector(FinalOf)
        base == {e \in Edits(H) : CountsAlone(e, out, pin, final)}
    IN  [counted |-> counted, out |-> out, pin |-> pin, tips |-> tips, chosen |-> chosen, path |-> path,
         final |-> final, shown |-> base \cup UNION {Beneath(H, e) : e \in base}]
Evaluate(H) == EvaluateWith(H, FALSE, Zero)

(* Up to where all links of d count by themselves, and none by the ancestors clause alone. *)
Solid(r, d) == IF d \notin view[r].out THEN know[r][d] ELSE Max({view[r].pin[d], view[r].final[d]})

PinToWrite(r, d) ==
    IF Broken = "pin_last_counted" THEN Max({e[2] : e \in {c \in view[r].shown : c[1] = d}} \cup {Solid(r, d)})
    ELSE Solid(r, d)

-----------------------------------------------------------------------------
(* Replica r takes in link e, the last of its author's in H: an edit goes the short way, a cut is evaluated anew. *)

Settle(r, e, H) ==
    LET link == Link(H, e)
        old == view[r]
        PinOf(d) == IF d \in link.targets THEN link.pins[d] ELSE lastPin[r][d]
        last == IF Broken = "arrival_pin" THEN Vector(PinOf) ELSE Zero
        new == CASE link.kind = "cut" /\ Broken = "arrival_pin" -> EvaluateWith(H, TRUE, last)
                 [] link.kind = "cut" -> Evaluate(H)
                 [] CountsAlone(e, old.out, old.pin, old.final) -> [old EXCEPT !.shown = @ \cup {e} \cup Beneath(H, e)]
                 [] OTHER -> old
    IN  /\ know' = [know EXCEPT ![r][e[1]] = e[2]]
        /\ lastPin' = [lastPin EXCEPT ![r] = last]
        /\ view' = [view EXCEPT ![r] = new]
        /\ legit' = [legit EXCEPT ![r] = IF "R" \in new.out THEN @ ELSE Len(H["R"])]
        /\ wasFinal' = [wasFinal EXCEPT ![r] = @ \cup {x \in Edits(H) : x[2] <= new.final[x[1]]}]

(* d writes a link, and takes it in itself. *)
Write(d, link) ==
    LET n == Len(chain[d]) + 1
        c == [chain EXCEPT ![d] = Append(@, link)]
    IN  /\ chain' = c
        /\ Settle(d, <<d, n>>, Prefixes(c, [know[d] EXCEPT ![d] = n]))

Blank == [kind |-> "edit", knows |-> Zero, anc |-> {}, targets |-> {}, pins |-> Zero, recipients |-> {},
          parents |-> {}, front |-> Zero]
Edit(K, deps) == [Blank EXCEPT !.knows = K, !.anc = deps \cup UNION {chain[e[1]][e[2]].anc : e \in deps}]

(* R writes what it likes: on nothing of others, or on all of B's edits. *)
WriteR ==
    /\ Len(chain["R"]) < MaxR
    /\ \E onB \in BOOLEAN :
        LET n == Len(chain["R"]) + 1
            own == {<<"R", m>> : m \in {k \in 1..(n - 1) : k % 2 = n % 2}}
            others == {<<"B", m>> : m \in {k \in 1..Len(chain["B"]) : chain["B"][k].kind = "edit"}}
        IN  chain' = [chain EXCEPT !["R"] = Append(@, Edit(Zero, own \cup IF onB THEN others ELSE {}))]
    /\ UNCHANGED <<know, view, lastPin, legit, wasFinal>>

(* B edits document x on all that it shows there; a colluding B on late entries of R too. *)
WriteB ==
    /\ Len(chain["B"]) < MaxB
    /\ "B" \notin view["B"].out
    /\ LET sees == IF "B" \in Colluders THEN Edits(Prefixes(chain, know["B"])) ELSE view["B"].shown
       IN  Write("B", Edit(know["B"], {e \in sees : e[1] = "B" \/ e[2] % 2 = 0}))

(* A removal of the targets, with its rotation and manifest. *)
Cut(d) ==
    /\ Len(chain[d]) < (IF d = "A" THEN MaxA ELSE MaxB)
    /\ d \notin view[d].out
    /\ d \notin Colluders
    /\ \E targets \in SUBSET {t \in Removable : Rank[d] < Rank[t]} :
        LET v == view[d]
            H == Prefixes(chain, know[d])
            PinOf(t) == IF t \in targets THEN PinToWrite(d, t) ELSE 0
            pins == Vector(PinOf)
            gone == v.out \cup targets
            followed == IF Broken # "join_frontier" THEN v.path
                        ELSE UNION {Path(H, v.counted, v.out, x) : x \in v.tips}
            FrontOf(t) == CASE t = d -> Len(chain[d]) + 1
                            [] t \notin gone -> know[d][t]
                            [] OTHER -> Max({v.pin[t], pins[t], FinalOn(H, followed, t)})
        IN  Write(d, [Blank EXCEPT !.kind = "cut", !.knows = know[d], !.targets = targets, !.pins = pins,
                                   !.recipients = Dev \ gone, !.parents = v.tips, !.front = Vector(FrontOf)])

(* The next link of another's chain arrives, once all that it names is held. *)
Learn(r, d) ==
    /\ d # r
    /\ know[r][d] < Len(chain[d])
    /\ LET n == know[r][d] + 1
           link == chain[d][n]
           H == Prefixes(chain, [know[r] EXCEPT ![d] = n])
       IN  /\ \A x \in Dev \ {d} : link.knows[x] <= know[r][x]
           /\ link.anc \subseteq Held(H)
           /\ Settle(r, <<d, n>>, H)
    /\ UNCHANGED chain

Init ==
    /\ chain = [d \in Dev |-> <<>>]
    /\ know = [r \in Replica |-> Zero]
    /\ view = [r \in Replica |-> Evaluate(Prefixes(chain, Zero))]
    /\ lastPin = [r \in Replica |-> Zero]
    /\ legit = [r \in Replica |-> 0]
    /\ wasFinal = [r \in Replica |-> {}]

Next == WriteR \/ WriteB \/ \E d \in Replica : Cut(d) \/ \E x \in Dev : Learn(d, x)
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must hold. *)

(* Whatever came in whatever order, a replica has concluded what the pure function says of what it holds. *)
Agreement == \A r \in Replica : view[r] = Evaluate(Prefixes(chain, know[r]))

(* No entry of a device that is valid is lost, and nothing that is shown lacks what it rests on. *)
NothingLost ==
    \A r \in Replica :
        /\ \A e \in Edits(Prefixes(chain, know[r])) : e[1] \notin view[r].out => e \in view[r].shown
        /\ \A e \in view[r].shown : Link(chain, e).anc \subseteq view[r].shown

(* A late entry of R counts only if somebody honest held it while taking R for valid, or a colluding member built on it. *)
NoGainByBackdating ==
    \A r \in Replica : "R" \in view[r].out =>
        \A e \in view[r].shown : e[1] = "R" =>
            \/ \E h \in Honest : e[2] <= legit[h]
            \/ \E f \in Edits(Prefixes(chain, know[r])) : f[1] \in Colluders /\ e \in Link(chain, f).anc

(* What was final is withdrawn only by a removal that the chosen epoch covers and that pins lower. *)
FinalUndoneByRuleOnly ==
    \A r \in Replica : \A e \in wasFinal[r] \ view[r].shown :
        \E c \in view[r].counted :
            /\ c[2] <= Past(chain, view[r].chosen)[c[1]]
            /\ e[1] \in Link(chain, c).targets
            /\ Link(chain, c).pins[e[1]] < e[2]

(* A rotation that removes nobody withdraws nothing and brings nothing back, for the one who writes it. *)
RotationAloneChangesNothing ==
    [][\A d \in Replica :
        /\ Len(chain'[d]) > Len(chain[d])
        /\ chain'[d][Len(chain'[d])].kind = "cut"
        /\ chain'[d][Len(chain'[d])].targets = {}
        => view'[d].shown = view[d].shown]_vars
=============================================================================
