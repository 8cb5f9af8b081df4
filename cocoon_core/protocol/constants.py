"""Every label, size and limit of the protocol, each with its unit and the section of the spec that fixes it.

`tests/unit/test_constants.py` compares this file with the tables in specs/.
"""

from __future__ import annotations

from typing import Final

# --- versions: specs/conventions.md §1
VERSION: Final = 1  # entries, runs and envelopes
FRAME_VERSION: Final = 1  # relay frames

# --- labels: specs/conventions.md §4. Each hash, derivation, signature and associated data has its own.
LABEL_GROUP: Final = "cocoon/v1/group"
LABEL_MEMBER: Final = "cocoon/v1/member"
LABEL_ENTRY: Final = "cocoon/v1/entry"
LABEL_DOCUMENT: Final = "cocoon/v1/document"
LABEL_ACTOR: Final = "cocoon/v1/actor"
LABEL_SCHEMA_ACTOR: Final = "cocoon/v1/schema-actor"
LABEL_POST: Final = "cocoon/v1/post"
LABEL_BUCKET: Final = "cocoon/v1/heads-bucket"
LABEL_HEADS: Final = "cocoon/v1/heads"
LABEL_HEADS_PLACE: Final = "cocoon/v1/heads-place"
LABEL_FRONTIER: Final = "cocoon/v1/frontier"
LABEL_RANK: Final = "cocoon/v1/rank"
LABEL_RUN: Final = "cocoon/v1/run"
LABEL_ENVELOPE: Final = "cocoon/v1/envelope"
LABEL_ENVELOPE_NONCE: Final = "cocoon/v1/envelope-nonce"
LABEL_ENVELOPE_HASH: Final = "cocoon/v1/envelope-hash"
LABEL_EPOCH_SEAL: Final = "cocoon/v1/epoch-seal"
LABEL_EPOCH_NONCE: Final = "cocoon/v1/epoch-nonce"
LABEL_EPOCH_TOPIC: Final = "cocoon/v1/epoch-topic"
LABEL_EPOCH_REPAIR: Final = "cocoon/v1/epoch-repair"
LABEL_EPOCH_CAST: Final = "cocoon/v1/epoch-cast"
LABEL_CAST: Final = "cocoon/v1/cast"
LABEL_HPKE_MLKEM: Final = "cocoon/v1/hpke-mlkem"
LABEL_HPKE_X25519: Final = "cocoon/v1/hpke-x25519"
LABEL_SECRET_HASH: Final = "cocoon/v1/secret-hash"
LABEL_WRAP: Final = "cocoon/v1/wrap"
LABEL_INVITE_SIGN: Final = "cocoon/v1/invite-sign"
LABEL_INVITE_HPKE: Final = "cocoon/v1/invite-hpke"
LABEL_INVITE_MAILBOX: Final = "cocoon/v1/invite-mailbox"
LABEL_INVITE_PROOF: Final = "cocoon/v1/invite-proof"
LABEL_JOIN: Final = "cocoon/v1/join"
LABEL_WELCOME: Final = "cocoon/v1/welcome"
LABEL_LINK_CHECK: Final = "cocoon/v1/link-check"
LABEL_OPEN: Final = "cocoon/v1/relay-open"
LABEL_BLOB: Final = "cocoon/v1/relay-blob"
LABEL_RELAY_CHALLENGE: Final = "cocoon/v1/relay-challenge"
LABEL_PROFILE_KEY: Final = "cocoon/v1/profile-key"
LABEL_PROFILE_CHECK: Final = "cocoon/v1/profile-check"

# --- encoding: specs/encoding.md
CBOR_MAX_DEPTH: Final = 16  # nested arrays and maps
CBOR_MAX_BYTES: Final = 16 * 1024 * 1024  # bytes of one value

# --- envelope and run: specs/envelope.md
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
ENVELOPE_OVERHEAD: Final = NONCE_BYTES + TAG_BYTES  # bytes
PADDING_FLOOR: Final = 256  # bytes of padded plaintext
MAX_ENVELOPE_BYTES: Final = 1024 * 1024  # bytes on the relay, nonce and tag included
MAX_RUN_ENTRIES: Final = 1024  # entries
MAX_RUN_BYTES: Final = 512 * 1024  # bytes of CBOR that a writer puts into one run
MAX_ROSTER_HEADS: Final = 32  # entry ids
MAX_SEQ: Final = 2**53 - 1  # entries of one device
MAX_TIME_MS: Final = 2**53 - 1  # milliseconds since 1970-01-01 UTC

# --- parking: specs/envelope.md §7
PARK_DEVICE_BYTES: Final = 1024 * 1024  # bytes for one device
PARK_TOTAL_BYTES: Final = 16 * 1024 * 1024  # bytes for one group

# --- documents and the gate: specs/documents.md
MAX_CHANGE_BYTES: Final = 256 * 1024  # bytes of one raw change
MAX_CHANGE_OPS: Final = 16_384  # operations in one change
MAX_CHANGE_PREDS: Final = 65_536  # predecessors named by one change
MAX_CHANGE_DEPS: Final = 1_024  # dependencies named by one change
MAX_OP_COUNTER: Final = 2**31 - 1  # greatest operation counter
MAX_DOCUMENT_NAME: Final = 128  # bytes of UTF-8
MAX_KEY_BYTES: Final = 1024  # bytes of UTF-8 in a map key
MAX_NESTING: Final = 32  # containers one inside another; the root is not counted
FREE_CHANGE_OPS: Final = 64  # operations that make something, beyond one for each byte of the raw change

# --- roster: specs/roster.md
DEFAULT_MAX_MEMBERS: Final = 12  # members plus open uses
MAX_MEMBERS: Final = 5_000
MAX_NAME_BYTES: Final = 128  # bytes of UTF-8 in a member's or group's name
MAX_RELAYS: Final = 8  # relays of one group
MAX_RELAY_URL: Final = 256  # bytes
MAX_INVITE_USES: Final = 1_000
MAX_PINS: Final = 256  # devices that one operation pins

# --- relay frames: specs/relay.md
MAX_FRAME_BYTES: Final = 2 * 1024 * 1024  # bytes of one WebSocket message
MAX_BLOB_BYTES: Final = 2 * 1024 * 1024  # bytes of one blob
MAX_PUT_ENVELOPES: Final = 64  # envelopes in one put
MAX_CAST_BYTES: Final = 4 * 1024  # bytes
MAX_HAVE_HASHES: Final = 1_000  # hashes in one `have`
CHALLENGE_BYTES: Final = 32

# --- device storage: specs/storage.md
PROFILE_VERSION: Final = 1  # of profile.key
PROFILE_ID_BYTES: Final = 16
MAX_KEY_FILE_BYTES: Final = 16 * 1024  # bytes of profile.key
ARGON2_SALT_BYTES: Final = 16
ARGON2_OPS: Final = 3  # passes over memory, for new passphrases
ARGON2_MEMORY_KIB: Final = 64 * 1024  # KiB, for new passphrases
ARGON2_MIN_OPS: Final = 2  # passes; less is refused
ARGON2_MIN_MEMORY_KIB: Final = 19 * 1024  # KiB; less is refused
ARGON2_MAX_OPS: Final = 64  # passes; more is refused
ARGON2_MAX_MEMORY_KIB: Final = 1024 * 1024  # KiB; more is refused

# --- local socket: specs/local-socket.md
LABEL_LOCAL_KEY: Final = "cocoon/v1/local-key"
LABEL_LOCAL_CALL: Final = "cocoon/v1/local-call"
LABEL_LOCAL_ANSWER: Final = "cocoon/v1/local-answer"
