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
LABEL_ADD_DEVICE: Final = "cocoon/v1/add-device"
LABEL_REPLACE_DEVICE: Final = "cocoon/v1/replace-device"
LABEL_REQUEST: Final = "cocoon/v1/request"
LABEL_REQUEST_INVITE: Final = "cocoon/v1/request-invite"
LABEL_REQUEST_ID: Final = "cocoon/v1/request-id"
LABEL_RECOVERY_PROOF: Final = "cocoon/v1/recovery-proof"
LABEL_RECOVER: Final = "cocoon/v1/recover"
LABEL_WELCOME: Final = "cocoon/v1/welcome"
LABEL_LINK_CHECK: Final = "cocoon/v1/link-check"
LABEL_DEVICE_CODE_CHECK: Final = "cocoon/v1/device-code-check"
LABEL_LINK_MAILBOX: Final = "cocoon/v1/link-mailbox"
LABEL_LINK_COMMIT: Final = "cocoon/v1/link-commit"
LABEL_LINK_TRANSCRIPT: Final = "cocoon/v1/link-transcript"
LABEL_LINK_WORDS: Final = "cocoon/v1/link-words"
LABEL_LINK_LETTER: Final = "cocoon/v1/link-letter"
LABEL_SAFETY_NUMBER: Final = "cocoon/v1/safety-number"
LABEL_ENVELOPE_NAME: Final = "cocoon/v1/envelope-name"
LABEL_OPEN: Final = "cocoon/v1/relay-open"
LABEL_BLOB: Final = "cocoon/v1/relay-blob"
LABEL_RELAY_GET: Final = "cocoon/v1/relay-get"
LABEL_RELAY_POST: Final = "cocoon/v1/relay-post"
LABEL_RELAY_BODY: Final = "cocoon/v1/relay-body"
LABEL_RELAY_CHALLENGE: Final = "cocoon/v1/relay-challenge"
LABEL_RELAY_TOKEN: Final = "cocoon/v1/relay-token"
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
MAX_RUN_BYTES: Final = 440 * 1024  # bytes of CBOR of one run, but for a suspend, which carries two
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
MAX_GENERATION: Final = 65_535  # of an owned document
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
MAX_VOUCHES: Final = 16  # members who must want a newcomer
MAX_GUARDIANS: Final = 16  # members who may bring a lost member back
MAX_RELAY_TOKEN: Final = 256  # bytes of an access token
EPOCH_DAYS: Final = 30  # days that an epoch lasts, unless the policy says otherwise
MAX_EPOCH_DAYS: Final = 365  # days

# --- rotation: specs/epoch.md
LABEL_WRAP_PAGE: Final = "cocoon/v1/wrap-page"
LABEL_COMPLAINT: Final = "cocoon/v1/complaint"
LABEL_REPAIR: Final = "cocoon/v1/repair"
WRAP_BYTES: Final = 1168  # bytes of one wrap
MAX_WRAPS_BESIDE: Final = 256  # wraps that stand beside the rotation in its envelope
RECIPIENT_NAME_BYTES: Final = 8  # bytes of a recipient's id that stand in the rotation
WRAPS_A_PAGE: Final = 64  # wraps in one page
MAX_WRAP_PAGES: Final = 256  # pages of one rotation
MAX_PARENT_TOPICS: Final = 32  # epochs that one rotation ends
EPOCH_BYTES: Final = 16 * 1024 * 1024  # bytes of envelopes after which an epoch ends
EPOCH_ENVELOPES: Final = 2_000  # envelopes after which an epoch ends, or more where it has many recipients
EPOCH_ENVELOPES_EACH: Final = 4  # envelopes for each recipient
REKEY_DAYS: Final = 30  # days that a device uses one HPKE key
REPAIR_DAYS: Final = 30  # days that a device goes on reading the repair topic of an epoch that ended

# --- manifest: specs/manifest.md
LABEL_MANIFEST_PAGE: Final = "cocoon/v1/manifest-page"
LABEL_SNAPSHOT_PAGE: Final = "cocoon/v1/snapshot-page"
MAX_PAGE_BYTES: Final = 1_032_191  # bytes of one sealed page before padding
MAX_MANIFEST_INLINE: Final = 64 * 1024  # bytes of a manifest that stand in its entry
MAX_MANIFEST_PAGES: Final = 64  # pages of one manifest
SNAPSHOT_PART_BYTES: Final = 400_000  # bytes of one part of a snapshot before it is compressed
MAX_SNAPSHOT_PARTS: Final = 4_096  # parts of one snapshot

# --- beacon: specs/beacon.md
LABEL_BEACON_ORDER: Final = "cocoon/v1/beacon-order"
MAX_BEACON_ENDS: Final = 32  # ends that one beacon tells
BEACON_HOURS: Final = 20  # hours between two beacons of one device
CAST_DIGEST_BYTES: Final = 256  # bytes of a padded digest in a cast
CAST_ENDS_BYTES: Final = 4_056  # bytes of padded ends in a cast
MAX_CAST_ENDS: Final = 48  # ends in one cast
MAX_CAST_MEMBERS: Final = 50  # members of a group in which devices cast
CAST_SECONDS: Final = 10  # seconds between two casts of a digest
CAST_ENDS_SECONDS: Final = 60  # seconds between two casts of ends, and between two times that one is heeded

# --- retire: specs/retire.md
MAX_RETIRE_HEADS: Final = 256  # devices that one retire names

# --- items of the vault: specs/vault-items.md
LABEL_VAULT_ITEM: Final = "cocoon/v1/vault-item"
VAULT_ITEM_ID_BYTES: Final = 16
VAULT_DIGEST_BYTES: Final = 32
MAX_CAPTION_BYTES: Final = 4_096  # bytes of UTF-8
MAX_ALBUM_BYTES: Final = 128  # bytes of UTF-8
MAX_ITEM_URL: Final = 2_048  # ASCII characters
MAX_BLUR_BYTES: Final = 64
MAX_ATTACHMENTS: Final = 32  # items that one post names

# --- posts: specs/feed.md
MAX_MENTIONS: Final = 64  # members that one post mentions
MAX_SOLVING: Final = 16  # replies that one question names as its answers
MAX_VERSIONS: Final = 100  # of one post that are shown
MAX_PINNED: Final = 32  # posts that stand at the top of a group's feed
MAX_DRAFTS: Final = 200  # of one group on one device

# --- written together: specs/together.md
LABEL_EVENT: Final = "cocoon/v1/event"
LABEL_EVENT_REPLY: Final = "cocoon/v1/event-reply"
EVENT_ID_BYTES: Final = 16
MAX_TITLE_BYTES: Final = 256  # bytes of UTF-8 in the name of a list, note or event, and in a place
MAX_LIST_ITEMS: Final = 2_000  # items that a writer puts into one list
MAX_LIST_TEXT_BYTES: Final = 1_024  # bytes of UTF-8 in one item
MAX_PLACE_CHARACTERS: Final = 64  # characters of an item's place in its list
MAX_NOTE_BYTES: Final = 64 * 1024  # bytes of UTF-8 that a writer lets a note have
MAX_EVENT_ABOUT_BYTES: Final = 4_096  # bytes of UTF-8 that say more of an event
MAX_EVENT_DAYS: Final = 3_660  # days that an event of whole days lasts
MAX_EVENT_WORDS_BYTES: Final = 1_024  # bytes of UTF-8 beside a reply
# --- people: specs/people.md
MAX_ABOUT_BYTES: Final = 512  # bytes of UTF-8
LABEL_PRESENCE: Final = "cocoon/v1/presence"
HERE_SECONDS: Final = 30  # seconds between two casts that a member is here
HERE_LASTS: Final = 75  # seconds for which one is shown
TYPING_SECONDS: Final = 4  # seconds between two casts that a member is typing
TYPING_LASTS: Final = 9  # seconds for which one is shown
LABEL_SEEN: Final = "cocoon/v1/seen"
LABEL_SEEN_KEY: Final = "cocoon/v1/seen-key"
LABEL_SEEN_RECIPIENTS: Final = "cocoon/v1/seen-recipients"
SEEN_BYTES: Final = 256  # bytes of a padded notice
MAX_SEEN_POSTS: Final = 15  # posts that one notice names
SEEN_WRAPS: Final = 4  # wraps in a box, or twice or four times as many
MAX_SEEN_WRAPS: Final = 16  # wraps in one box
MAX_SEEN_BOXES: Final = 64  # boxes of one document that are tried when it is built anew
SEEN_HOURS: Final = 1  # hours between two times that a device tells
PRESENCE_SKEW_SECONDS: Final = 300  # seconds by which two clocks may differ for a cast to be shown

# --- searching on this device: specs/search.md
MAX_SEARCH_CHARS: Final = 65_536  # characters of a spelled text that are looked in
MAX_QUERY_CHARS: Final = 1_000  # that are typed
MAX_QUERY_WORDS: Final = 16  # pieces of them
MAX_RESULTS: Final = 1_000  # of one search

# --- notices: specs/events.md
MAX_NOTICES: Final = 2_000  # notices that are kept of one group
NOTICE_DAYS: Final = 30  # what was written longer ago is told no more
NOTICE_AGAIN_HOURS: Final = 6  # after which what goes on in a list or note is told once more
MAX_MUTES: Final = 1_000  # of one group

# --- linking a device: specs/device-link.md
LINK_WORDS: Final = 4  # words that both screens show
MAX_LINK_GROUPS: Final = 64  # groups of one linking

# --- safety numbers: specs/verification.md
SAFETY_NUMBER_BYTES: Final = 60
SAFETY_NUMBER_WORDS: Final = 12  # words; the number in digits has 12 groups of 5

# --- relay frames: specs/relay.md
MAX_FRAME_BYTES: Final = 2 * 1024 * 1024  # bytes of one WebSocket message
MAX_BODY_BYTES: Final = 2 * 1024 * 1024 + 4 * 1024  # bytes of one POST for sync
MAX_BODY_FRAMES: Final = 64  # frames in one POST for sync
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024  # bytes of frames in the answer to one request
MAX_BLOB_BYTES: Final = 2 * 1024 * 1024  # bytes of one blob
MAX_PUT_ENVELOPES: Final = 64  # envelopes in one put
MAX_CAST_BYTES: Final = 4 * 1024  # bytes
MAX_HAVE_HASHES: Final = 1_000  # hashes in one `have`
CHALLENGE_BYTES: Final = 32
NAME_SALT_BYTES: Final = 32
NAME_BYTES: Final = 8  # bytes of an envelope's name under a salt
MAX_NAMES: Final = 4_096  # names in one frame
MAX_FETCH_PLACES: Final = 1_024  # places that one frame asks for

# --- bundle: specs/bundle.md
LABEL_BUNDLE_PART: Final = "cocoon/v1/bundle-part"
BUNDLE_PART_BYTES: Final = 1024 * 1024  # bytes of envelopes in one part
MAX_BUNDLE_PART: Final = 2 * 1024 * 1024 + 64  # bytes of one part's payload
MAX_BUNDLE_TOPICS: Final = 4_096  # topics in one bundle
MAX_BUNDLE_BLOBS: Final = 65_536  # blobs in one bundle

# --- several relays: specs/relays.md
LEAVE_DAYS: Final = 30  # days that a device tries to reach a relay which the policy names no more
SIGNPOST_DAYS: Final = 3  # days that a device holds back where a topic is sealed by what may be a signpost

# --- local network: specs/lan.md
LABEL_LAN: Final = "cocoon/v1/lan"
LABEL_LAN_TOKEN: Final = "cocoon/v1/lan-token"
LAN_INSTANCE_BYTES: Final = 16  # bytes of an instance's name
LAN_TOKEN_BYTES: Final = 8
LAN_SLOT_SECONDS: Final = 3_600  # seconds that a token serves
LAN_TOKENS_A_STRING: Final = 24  # tokens in one string of a TXT record
MAX_LAN_STRINGS: Final = 4  # strings with tokens in one announcement
LAN_EPOCHS: Final = 4  # epochs of one group that a device announces

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

# --- backup: specs/backup.md
BACKUP_VERSION: Final = 1
BACKUP_CHUNK_BYTES: Final = 64 * 1024  # plaintext bytes of a chunk; the last may have fewer
MAX_BACKUP_HEAD_BYTES: Final = 256  # bytes of the head's CBOR
BACKUP_SUM_BYTES: Final = 16
BACKUP_COMMITMENT_BYTES: Final = 32
MAX_BACKUP_RECORD_BYTES: Final = 256 * 1024 * 1024  # bytes of one record's CBOR
LABEL_BACKUP_SUM: Final = "cocoon/v1/backup-sum"
LABEL_BACKUP_COMMITMENT: Final = "cocoon/v1/backup-commitment"
LABEL_BACKUP_STREAM: Final = "cocoon/v1/backup-stream"

# --- recovery: specs/recovery.md
PHRASE_WORDS: Final = 12
PHRASE_BYTES: Final = 16  # bytes of secret in a phrase
PHRASE_ARGON2_OPS: Final = 3  # passes over memory
PHRASE_ARGON2_MEMORY_KIB: Final = 65_536  # KiB
MIN_INDEX_BYTES: Final = 16_384  # bytes of a padded index
MAX_INDEX_BYTES: Final = 524_288  # bytes of a padded index
INDEX_TAG_BYTES: Final = 16  # bytes of a writer's tag in an index
MAX_INDEX_TAGS: Final = 64  # tags that one index supersedes
MAX_INDEX_KEYS: Final = 4  # sealed seeds of one group in an index
MAX_INDEX_RECORDS: Final = 32  # records of one group that are tried
LABEL_PHRASE_STRETCH: Final = "cocoon/v1/phrase-stretch"
LABEL_INDEX_HPKE: Final = "cocoon/v1/index-hpke"
LABEL_INDEX_SECRET: Final = "cocoon/v1/index-secret"
LABEL_INDEX_MAILBOX: Final = "cocoon/v1/index-mailbox"
LABEL_INDEX: Final = "cocoon/v1/index"
LABEL_RECOVERY_SIGN: Final = "cocoon/v1/recovery-sign"
LABEL_RECOVERY_HPKE: Final = "cocoon/v1/recovery-hpke"
LABEL_RECOVERY_SEED: Final = "cocoon/v1/recovery-seed"
LABEL_CIRCLE_CHECK: Final = "cocoon/v1/circle-check"

# --- local socket: specs/local-socket.md
LABEL_LOCAL_KEY: Final = "cocoon/v1/local-key"
LABEL_LOCAL_CALL: Final = "cocoon/v1/local-call"
LABEL_LOCAL_ANSWER: Final = "cocoon/v1/local-answer"

# --- files of the vault: specs/vault.md
CHUNK_BYTES: Final = 1024 * 1024  # bytes of a file in one chunk
MAX_FILE_BYTES: Final = 2**40  # bytes of one file
MAX_INLINE_CHUNKS: Final = 32  # chunks whose names stand in the item itself
DIGEST_PIECES: Final = 64  # pieces of a large file that its digest is made from
DIGEST_PIECE_BYTES: Final = 16 * 1024  # bytes of one
VAULT_RENEW_DAYS: Final = 30  # days after which a device renews the leases of its member's files
VAULT_OTHERS_RENEW_DAYS: Final = 60  # days after which it renews those of others
LABEL_VAULT_CHUNK: Final = "cocoon/v1/vault-chunk"
LABEL_VAULT_LIST: Final = "cocoon/v1/vault-list"
LABEL_VAULT_DIGEST: Final = "cocoon/v1/vault-digest"
LABEL_VAULT_FILE: Final = "cocoon/v1/vault-file"
