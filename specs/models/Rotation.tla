------------------------------ MODULE Rotation ------------------------------
(***************************************************************************)
(* Removal with rotation over two relays.                                  *)
(*                                                                         *)
(* A and B are honest; R, the senior of the three, is hostile.  A and B    *)
(* write entries, remove R, and rotate: store removal, rotation and        *)
(* secret; put the blobs; put the manifest into the new topic, and after   *)
(* it what came since; then one put that holds removal and rotation, seals *)
(* the old topic, and expects that all in it was read.  Any step may be    *)
(* the last one of a device that dies, and the ack of the sealing put may  *)
(* be lost.  Whoever follows the chosen epoch puts its manifest and what   *)
(* stands above the frontier on each relay that it reaches, and then the   *)
(* rotation into every older topic there that does not lead to it yet.     *)
(*                                                                         *)
(* R keeps what secrets it was given: it may seal topics and repair topics *)
(* without a rotation, and rotate as long as it is a member.               *)
(*                                                                         *)
(* The repair topic of a topic is level 1 of it, that one's own repair     *)
(* topic level 2, and so on.  A relay knows nothing of levels.             *)
(*                                                                         *)
(* The rules are those of DESIGN 7, as mended (README.md).                 *)
(*                                                                         *)
(* Left out: which entries count (Counting.tla; here all of A's and B's    *)
(* do), joins and open invites, wraps that do not open, garbage that R     *)
(* appends (quotas are the relay's), time (rank and backing off only make  *)
(* forks rarer; here all may rotate at once).                              *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
    ReachA, ReachB,     \* the relays that A and B reach
    Writers, Removers,  \* who writes an entry, who may remove R
    MaxRot,             \* rotations in all
    HostileSeals,       \* topics that R may seal without a rotation
    HostileRotations,   \* rotations that R may make
    Deaths,             \* honest devices that may die
    LostAcks,           \* acks of sealing puts that may be lost
    Expiry,             \* whether a sealed topic may lose all but its rotations
    Broken              \* "none", or the rule that is broken: see Breaks

Breaks == {"none", "seal_without_expect", "no_reput", "no_repair", "no_recipient_check", "resume_blindly",
           "seal_first", "one_repair", "rotator_only", "seal_before_reput"}
ASSUME Broken \in Breaks

VARIABLES
    know,       \* honest device -> the items that it holds
    rot,        \* the rotations ever made
    pend,       \* honest device -> its rotation under way, 0 if none
    stage,      \* honest device -> [at: the relay, step: what it has put there]
    log,        \* relay -> the pairs of place and item that it stores
    sealed,     \* relay -> the places that it sealed
    stored,     \* ghost: entries that a relay has acknowledged
    leak,       \* ghost: somebody gave R a secret or content, knowing of the removal
    dead,       \* honest devices that died
    budget      \* what is left: [seals, rotations, deaths, acks]

vars == <<know, rot, pend, stage, log, sealed, stored, leak, dead, budget>>

Honest == {"A", "B"}
Relays == ReachA \cup ReachB
Reach == [A |-> ReachA, B |-> ReachB]
Rank == [R |-> 0, A |-> 1, B |-> 2]
Levels == 0..(HostileSeals + MaxRot)
First == [by |-> "R", parents |-> {}, ancestors |-> {}, past |-> {}, wraps |-> {"A", "B", "R"}, front |-> {}]
Rot(t) == IF t = 0 THEN First ELSE rot[t]
Made == DOMAIN rot
Entry(d) == <<"entry", d>>
Removal(d) == <<"removal", d>>
Turn(t) == <<"rotation", t>>
Manifest(t) == <<"manifest", t>>
Blobs(t) == <<"blobs", t>>
Kind(S, k) == {i \in S : i[1] = k}
Alive == Honest \ dead

-----------------------------------------------------------------------------
(* What a device concludes from the items K that it holds. *)

Turns(K) == {i[2] : i \in Kind(K, "rotation")}
Epochs(K) == {0} \cup Turns(K)
KnowsRemoval(K) == Kind(K, "removal") # {}
Secrets(d, K) == {t \in Epochs(K) : d \in Rot(t).wraps}
Stale(K, t) == KnowsRemoval(K) /\ "R" \in Rot(t).wraps
Better(K, s, t) ==
    LET outS == KnowsRemoval(K) /\ Rot(s).by = "R"
        outT == KnowsRemoval(K) /\ Rot(t).by = "R"
        coversS == Cardinality(Rot(s).past \cap K)
        coversT == Cardinality(Rot(t).past \cap K)
    IN  CASE Stale(K, s) # Stale(K, t) -> Stale(K, t)
          [] outS # outT -> outT
          [] coversS # coversT -> coversS > coversT
          [] Rank[Rot(s).by] # Rank[Rot(t).by] -> Rank[Rot(s).by] < Rank[Rot(t).by]
          [] OTHER -> s < t
Tips(K) == Epochs(K) \ UNION {Rot(t).parents : t \in Epochs(K)}
Chosen(K) == LET tips == Tips(K) IN CHOOSE s \in tips : \A t \in tips \ {s} : Better(K, s, t)

-----------------------------------------------------------------------------
(* Relays. A topic with its repair topics is a ladder; a rotation goes to the lowest place that is not sealed. *)

At(r, place) == {x[2] : x \in {p \in log[r] : p[1] = place}}
Ladder(r, t) == {x[2] : x \in {p \in log[r] : p[1][1] = t}}
Free(r, t) == CHOOSE l \in Levels : <<t, l>> \notin sealed[r] /\ \A m \in Levels : m < l => <<t, m>> \in sealed[r]
IsFree(r, t) == \E l \in Levels : <<t, l>> \notin sealed[r]
MayClimb(r, t) == CASE Broken = "no_repair" -> Free(r, t) = 0
                    [] Broken = "one_repair" -> Free(r, t) <= 1
                    [] OTHER -> TRUE

Put(r, place, items) == log' = [log EXCEPT ![r] = @ \cup {<<place, i>> : i \in items}]
Seal(r, place) == sealed' = [sealed EXCEPT ![r] = @ \cup {place}]

(* What d reads at r: all places of the epochs whose secret it has, and all that their manifests hold. *)
Readable(d, r) ==
    LET mine == UNION {Ladder(r, t) : t \in Secrets(d, know[d])}
        opened == {t \in Made : Manifest(t) \in mine /\ Blobs(t) \in mine}
    IN  {i \in mine : i[1] \in {"entry", "removal", "rotation"}}
            \cup UNION {Rot(t).front \cup Rot(t).past \cup {Turn(t)} \cup {Turn(s) : s \in Rot(t).ancestors \ {0}} : t \in opened}

News(d, r) == Readable(d, r) \ know[d]

-----------------------------------------------------------------------------
(* What an honest device is to do. *)

(* c is chosen, yet at r its topic is sealed, all there was read, and nothing leads on. *)
SealedForNothing(d, r, c) == <<c, 0>> \in sealed[r]

NeedsRotation(d) ==
    LET c == Chosen(know[d])
    IN  /\ \A r \in Reach[d] : News(d, r) = {}
        /\ Stale(know[d], c) \/ \E r \in Reach[d] : SealedForNothing(d, r, c)

(* The older topics from which, at r, nothing leads to the chosen epoch c. *)
Astray(d, r, c) == {q \in Rot(c).ancestors : Turns(Ladder(r, q)) \cap ({c} \cup Rot(c).ancestors) = {}}

Unput(d, r, c) ==
    LET here == At(r, <<c, 0>>)
        all == Kind(know[d], "entry") \ Rot(c).front
        wanted == IF Broken = "no_reput" THEN {i \in all : i = Entry(d) /\ i \notin stored} ELSE all
    IN  IF c = 0 \/ Manifest(c) \in here THEN wanted \ here ELSE {}

MaySend(d, c) == Broken = "no_recipient_check" \/ ~Stale(know[d], c)

-----------------------------------------------------------------------------
(* Honest steps. *)

Read(d, r) ==
    /\ News(d, r) # {}
    /\ know' = [know EXCEPT ![d] = @ \cup News(d, r)]
    /\ UNCHANGED <<rot, pend, stage, log, sealed, stored, leak, dead, budget>>

WriteEntry(d) ==
    /\ d \in Writers
    /\ Entry(d) \notin know[d]
    /\ know' = [know EXCEPT ![d] = @ \cup {Entry(d)}]
    /\ UNCHANGED <<rot, pend, stage, log, sealed, stored, leak, dead, budget>>

Send(d, r) ==
    LET c == Chosen(know[d]) IN
    /\ Unput(d, r, c) # {}
    /\ <<c, 0>> \notin sealed[r]
    /\ MaySend(d, c)
    /\ Put(r, <<c, 0>>, Unput(d, r, c))
    /\ stored' = stored \cup Unput(d, r, c)
    /\ leak' = (leak \/ Stale(know[d], c))
    /\ UNCHANGED <<know, rot, pend, stage, sealed, dead, budget>>

(* One transaction: removal, rotation, manifest and secret. It begins at one relay; the others come after. *)
Prepare(d) ==
    /\ pend[d] = 0
    /\ Cardinality(Made) < MaxRot
    /\ \E removing \in BOOLEAN, r \in Reach[d] :
        /\ IF removing THEN d \in Removers /\ ~KnowsRemoval(know[d]) ELSE NeedsRotation(d)
        /\ LET t == Cardinality(Made) + 1
               K == know[d] \cup (IF removing THEN {Removal(d)} ELSE {})
               tips == Tips(K)
           IN  /\ rot' = [s \in Made \cup {t} |-> IF s # t THEN rot[s] ELSE
                    [by |-> d, parents |-> tips, ancestors |-> tips \cup UNION {Rot(p).ancestors : p \in tips},
                     past |-> Kind(K, "removal"), front |-> Kind(K, "entry"),
                     wraps |-> IF KnowsRemoval(K) THEN Honest ELSE Honest \cup {"R"}]]
               /\ know' = [know EXCEPT ![d] = K]
               /\ pend' = [pend EXCEPT ![d] = t]
        /\ stage' = [stage EXCEPT ![d] = [at |-> r, step |-> "stored"]]
    /\ UNCHANGED <<log, sealed, stored, leak, dead, budget>>

(* Something that the rotation does not cover has come to be known: it is left behind, an orphan. *)
Outdated(d) ==
    LET t == pend[d]
    IN  ~(Kind(know[d], "removal") \subseteq Rot(t).past /\ Turns(know[d]) \subseteq Rot(t).ancestors)

Abandon(d) ==
    /\ pend[d] # 0
    /\ Outdated(d)
    /\ Broken # "resume_blindly"
    /\ pend' = [pend EXCEPT ![d] = 0]
    /\ UNCHANGED <<know, rot, stage, log, sealed, stored, leak, dead, budget>>

PutNew(d) ==
    LET t == pend[d]
        r == stage[d].at
        step == stage[d].step
        next == CASE step = "stored" -> "blobs" [] OTHER -> "manifest"
    IN  /\ t # 0
        /\ step \in {"stored", "blobs"}
        /\ Put(r, <<t, 0>>, {IF step = "stored" THEN Blobs(t) ELSE Manifest(t)})
        /\ stage' = [stage EXCEPT ![d].step = next]
        /\ UNCHANGED <<know, rot, pend, sealed, stored, leak, dead, budget>>

(* What came since the manifest was made. It goes into the new topic before the old one is sealed, and has not arrived
   anywhere until that is done: the new topic may yet be an orphan. *)
Since(d, t, r) == (Kind(know[d], "entry") \ Rot(t).front) \ At(r, <<t, 0>>)

PutSince(d) ==
    LET t == pend[d]
        r == stage[d].at
    IN  /\ t # 0
        /\ stage[d].step = "manifest"
        /\ Broken # "seal_before_reput"
        /\ Since(d, t, r) # {}
        /\ ~Outdated(d)
        /\ Put(r, <<t, 0>>, Since(d, t, r))
        /\ UNCHANGED <<know, rot, pend, stage, sealed, stored, leak, dead, budget>>

(* The sealing put on the topic of the chosen parent. Already stored: acknowledged, whatever else holds. *)
SealOld(d) ==
    LET t == pend[d]
        r == stage[d].at
        c == Chosen(know[d] \ {Turn(t)})
        place == <<c, Free(r, c)>>
        done == Turn(t) \in Ladder(r, c)
    IN  /\ t # 0
        /\ stage[d].step = (IF Broken = "seal_first" THEN "stored" ELSE "manifest")
        /\ IF done THEN UNCHANGED <<log, sealed, stored, leak>> ELSE
            /\ Broken # "resume_blindly" => ~Outdated(d)
            /\ Broken # "seal_without_expect" => Readable(d, r) \subseteq know[d]
            /\ Broken \in {"seal_before_reput", "no_reput"} \/ Since(d, t, r) = {}
            /\ MayClimb(r, c)
            /\ Put(r, place, {Turn(t)} \cup Rot(t).past)
            /\ Seal(r, place)
            /\ stored' = stored \cup Rot(t).front \cup Kind(At(r, <<t, 0>>), "entry")
            /\ leak' = (leak \/ Stale(know[d], t))
        /\ \/ /\ know' = [know EXCEPT ![d] = @ \cup {Turn(t)}]
              /\ IF Broken = "seal_first" THEN UNCHANGED pend ELSE pend' = [pend EXCEPT ![d] = 0]
              /\ UNCHANGED budget
           \/ /\ ~done
              /\ budget.acks > 0
              /\ budget' = [budget EXCEPT !.acks = @ - 1]
              /\ UNCHANGED <<know, pend>>
        /\ UNCHANGED <<rot, stage, dead>>

MayAnnounce(d, c) == Broken # "rotator_only" \/ Rot(c).by = d

(* Whoever follows the chosen epoch makes every relay lead there: the manifest first; what stands above it (Send); then the
   rotation, which seals. *)
Open(d, r) ==
    LET c == Chosen(know[d])
    IN  /\ Astray(d, r, c) # {}
        /\ MayAnnounce(d, c)
        /\ ~Stale(know[d], c)
        /\ Manifest(c) \notin At(r, <<c, 0>>)
        /\ Put(r, <<c, 0>>, {Blobs(c), Manifest(c)})
        /\ UNCHANGED <<know, rot, pend, stage, sealed, stored, leak, dead, budget>>

Announce(d, r) ==
    LET c == Chosen(know[d])
    IN  \E q \in Astray(d, r, c) :
        /\ MayAnnounce(d, c)
        /\ News(d, r) = {}
        /\ ~Stale(know[d], c)
        /\ Manifest(c) \in At(r, <<c, 0>>)
        /\ Broken = "seal_before_reput" \/ Unput(d, r, c) = {} \/ <<c, 0>> \in sealed[r]
        /\ MayClimb(r, q)
        /\ Put(r, <<q, Free(r, q)>>, {Turn(c)} \cup Rot(c).past)
        /\ Seal(r, <<q, Free(r, q)>>)
        /\ UNCHANGED <<know, rot, pend, stage, stored, leak, dead, budget>>

-----------------------------------------------------------------------------
(* The rest of the world. *)

SecretsOfR == {0} \cup {t \in Made : "R" \in rot[t].wraps /\ \E r \in Relays : \E x \in log[r] : x[2] = Turn(t)}

HostileSeal ==
    /\ budget.seals > 0
    /\ \E r \in Relays, t \in SecretsOfR :
        /\ Seal(r, <<t, Free(r, t)>>)
    /\ budget' = [budget EXCEPT !.seals = @ - 1]
    /\ UNCHANGED <<know, rot, pend, stage, log, stored, leak, dead>>

(* A rotation by R from the first epoch, with a manifest that holds nothing. *)
HostileRotation ==
    /\ budget.rotations > 0
    /\ Cardinality(Made) < MaxRot
    /\ \E r \in Relays :
        LET t == Cardinality(Made) + 1
            place == <<0, Free(r, 0)>>
        IN  /\ rot' = [s \in Made \cup {t} |-> IF s # t THEN rot[s] ELSE
                [First EXCEPT !.parents = {0}, !.ancestors = {0}]]
            /\ log' = [log EXCEPT ![r] = @ \cup {<<place, Turn(t)>>, <<<<t, 0>>, Blobs(t)>>, <<<<t, 0>>, Manifest(t)>>}]
            /\ Seal(r, place)
    /\ budget' = [budget EXCEPT !.rotations = @ - 1]
    /\ UNCHANGED <<know, pend, stage, stored, leak, dead>>

Die(d) ==
    /\ budget.deaths > 0
    /\ dead' = dead \cup {d}
    /\ budget' = [budget EXCEPT !.deaths = @ - 1]
    /\ UNCHANGED <<know, rot, pend, stage, log, sealed, stored, leak>>

(* A sealed topic expires, but for the rotations in it. *)
Expire ==
    /\ Expiry
    /\ \E r \in Relays : \E place \in sealed[r] :
        LET gone == {x \in log[r] : x[1] = place /\ x[2][1] = "entry"}
        IN  /\ gone # {}
            /\ log' = [log EXCEPT ![r] = @ \ gone]
    /\ UNCHANGED <<know, rot, pend, stage, sealed, stored, leak, dead, budget>>

Init ==
    /\ know = [d \in Honest |-> {}]
    /\ rot = [t \in {} |-> First]
    /\ pend = [d \in Honest |-> 0]
    /\ stage = [d \in Honest |-> [at |-> 0, step |-> "stored"]]
    /\ log = [r \in Relays |-> {}]
    /\ sealed = [r \in Relays |-> {}]
    /\ stored = {}
    /\ leak = FALSE
    /\ dead = {}
    /\ budget = [seals |-> HostileSeals, rotations |-> HostileRotations, deaths |-> Deaths, acks |-> LostAcks]

Next ==
    \/ \E d \in Alive :
        \/ WriteEntry(d) \/ Prepare(d) \/ Abandon(d) \/ PutNew(d) \/ PutSince(d) \/ SealOld(d) \/ Die(d)
        \/ \E r \in Reach[d] : Read(d, r) \/ Send(d, r) \/ Open(d, r) \/ Announce(d, r)
    \/ HostileSeal \/ HostileRotation \/ Expire
Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must hold. *)

(* Nobody who knows of the removal wraps a secret for R, or puts content where R can open it. *)
Secrecy == ~leak

(* A rotation at a relay leads to a topic that opens with its manifest there, or is R's. *)
LeadsOn ==
    \A r \in Relays : \A x \in log[r] : x[2][1] = "rotation" =>
        {Blobs(x[2][2]), Manifest(x[2][2])} \subseteq At(r, <<x[2][2], 0>>)

(* No honest device that lives has anything left to do. *)
Settled(d) ==
    LET c == Chosen(know[d])
    IN  /\ pend[d] = 0
        /\ ~NeedsRotation(d)
        /\ \A r \in Reach[d] :
            /\ News(d, r) = {}
            /\ ~\E q \in Astray(d, r, c) : MayAnnounce(d, c) /\ MayClimb(r, q)
            /\ Unput(d, r, c) = {}
Quiet == \A d \in Alive : Settled(d)

(* When all is quiet, those who live have chosen the same epoch, and R is not in it if any of them removed it. *)
Agreement ==
    Quiet => \A d, e \in Alive :
        /\ Chosen(know[d]) = Chosen(know[e])
        /\ KnowsRemoval(know[d]) => ~Stale(know[e], Chosen(know[e])) /\ KnowsRemoval(know[e])

(* When all is quiet, every entry of A and B, that a relay took or whose author lives, is held by all who live, and the
   chosen topic has it at every relay, in its manifest or above. *)
NothingLost ==
    Quiet => \A i \in {Entry(d) : d \in Honest} :
        (i \in stored \/ \E d \in Alive : i \in know[d]) =>
            \A d \in Alive :
                /\ i \in know[d]
                /\ \A r \in Reach[d] : i \in Rot(Chosen(know[d])).front \cup At(r, <<Chosen(know[d]), 0>>)

(* There is always a next step, and it never takes more rotations than the model has: nobody chases another for ever. *)
NoDeadlock ==
    /\ \A r \in Relays : \A t \in Made \cup {0} : IsFree(r, t)
    /\ \A d \in Alive : Cardinality(Made) = MaxRot /\ pend[d] = 0 => ~NeedsRotation(d)
    /\ Quiet \/ \E d \in Alive :
        \/ pend[d] # 0 /\ (Outdated(d) \/ stage[d].step # "manifest" \/ ENABLED PutSince(d) \/ ENABLED SealOld(d))
        \/ NeedsRotation(d)
        \/ \E r \in Reach[d] : News(d, r) # {} \/ ENABLED Send(d, r) \/ ENABLED Open(d, r) \/ ENABLED Announce(d, r)
=============================================================================
