---------------------------- MODULE Replacement -----------------------------
(***************************************************************************)
(* Two devices that each say they replace the same old one.                *)
(*                                                                         *)
(* The key of the old device is known twice (a restored copy, a thief).    *)
(* N and M each enter with replace_device, signed by the old key.  N is    *)
(* the owner's.  A is the senior admin, B another device that may decide.  *)
(* All write at any time; A and B learn the operations in any order that   *)
(* keeps causes before effects.                                            *)
(*                                                                         *)
(* One replacement stands.  Of two, the one that a manifest on the epoch   *)
(* path holds stands; without one both are void, until A or B decides; of  *)
(* two decisions the senior's counts.  A decision also overrules a         *)
(* manifest.  Rotations here follow one another: forks of the epoch are    *)
(* Rotation.tla, forks of a chain Equivocation.tla.                        *)
(*                                                                         *)
(* Left out: recovery keys (a decider like A), pins of void entries.       *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
    MaxManifests,   \* manifests that are written
    Broken          \* "none", or the rule that is broken: see Breaks

Breaks == {"none", "first_seen", "not_final", "last_decision"}
ASSUME Broken \in Breaks

VARIABLES
    made,       \* all operations there are, each [id, past, ...]
    know,       \* replica -> the ids that it holds
    first,      \* replica -> the replacement that came first, "" if none (used by a broken replica only)
    last,       \* replica -> the decision that came last (used by a broken replica only)
    wasFinal    \* ghost: the replacements that stood while a manifest held them, before any decision

vars == <<made, know, first, last, wasFinal>>

New == {"N", "M"}
Decider == {"A", "B"}
Replica == Decider
Of(K, kind) == {o \in made : o.id \in K /\ o.kind = kind}
Replace(n) == <<"replace", n>>

(* The device that stands for the old one after K, "" for none. A manifest says which one its writer saw stand. *)
Stands(r, K) ==
    LET here == {n \in New : Replace(n) \in K}
        decided == Of(K, "decide")
        bySenior == IF \E o \in decided : o.by = "A" THEN {o \in decided : o.by = "A"} ELSE decided
        held == {o \in Of(K, "manifest") : o.holds # "" /\ \A p \in Of(K, "manifest") : p.holds # "" => o.number <= p.number}
    IN  CASE decided # {} ->
                IF Broken = "last_decision" THEN last[r] ELSE (CHOOSE o \in bySenior : TRUE).holds
          [] Cardinality(here) = 0 -> ""
          [] Cardinality(here) = 1 -> CHOOSE n \in here : TRUE
          [] Broken = "first_seen" -> first[r]
          [] held # {} /\ Broken # "not_final" -> (CHOOSE o \in held : TRUE).holds
          [] OTHER -> ""

Settle(r, o) ==
    /\ know' = [know EXCEPT ![r] = @ \cup {o.id}]
    /\ first' = IF Broken = "first_seen" /\ o.kind = "replace" /\ first[r] = "" THEN [first EXCEPT ![r] = o.holds] ELSE first
    /\ last' = IF Broken = "last_decision" /\ o.kind = "decide" THEN [last EXCEPT ![r] = o.holds] ELSE last

Write(r, o) == made' = made \cup {o} /\ Settle(r, o)

EnterNew(n) ==
    /\ Replace(n) \notin {o.id : o \in made}
    /\ made' = made \cup {[id |-> Replace(n), kind |-> "replace", by |-> n, holds |-> n, past |-> {}, number |-> 0]}
    /\ UNCHANGED <<know, first, last, wasFinal>>

(* A decides once, and B once: for N, the owner's device. Hostile or mistaken, B may decide for M. *)
Decide(d) ==
    /\ <<"decide", d>> \notin know[d]
    /\ {Replace(n) : n \in New} \subseteq know[d]
    /\ \E n \in (IF d = "A" THEN {"N"} ELSE New) :
        Write(d, [id |-> <<"decide", d>>, kind |-> "decide", by |-> d, holds |-> n, past |-> know[d], number |-> 0])
    /\ UNCHANGED wasFinal

(* One manifest after another: `expect` on one relay, so its writer holds the one before. *)
WriteManifest(d) ==
    LET number == Cardinality({o \in made : o.kind = "manifest"}) + 1
        stands == Stands(d, know[d])
    IN  /\ number <= MaxManifests
        /\ \A o \in made : o.kind = "manifest" => o.id \in know[d]
        /\ Write(d, [id |-> <<"manifest", number>>, kind |-> "manifest", by |-> d, holds |-> stands,
                     past |-> know[d], number |-> number])
        /\ wasFinal' = IF stands # "" /\ Of(know[d], "decide") = {} THEN wasFinal \cup {stands} ELSE wasFinal

Learn(r) ==
    /\ \E o \in made :
        /\ o.id \notin know[r]
        /\ o.past \subseteq know[r]
        /\ Settle(r, o)
    /\ UNCHANGED <<made, wasFinal>>

Init ==
    /\ made = {}
    /\ know = [r \in Replica |-> {}]
    /\ first = [r \in Replica |-> ""]
    /\ last = [r \in Replica |-> ""]
    /\ wasFinal = {}

Next ==
    \/ \E n \in New : EnterNew(n)
    \/ \E d \in Decider : Decide(d) \/ WriteManifest(d)
    \/ \E r \in Replica : Learn(r)
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must hold. *)

(* Replicas that hold the same let the same device stand. *)
Agreement == \A r, s \in Replica : know[r] = know[s] => Stands(r, know[r]) = Stands(s, know[s])

(* A replacement that a manifest holds is not voided by a second one that turns up later. Only a decision does that. *)
FinalStays ==
    \A r \in Replica : Of(know[r], "manifest") # {} /\ Of(know[r], "decide") = {} =>
        \A n \in wasFinal : Replace(n) \in know[r] /\ (\E o \in Of(know[r], "manifest") : o.holds = n) => Stands(r, know[r]) = n

(* At most one replacement was ever made final without a decision. *)
OneFinal == Cardinality(wasFinal) <= 1

(* Once the senior has decided for the owner's device, it stands with everybody who knows. *)
OwnerComesBack == \A r \in Replica : <<"decide", "A">> \in know[r] => Stands(r, know[r]) = "N"
=============================================================================
