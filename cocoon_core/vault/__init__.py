"""Files and their encrypted chunks: kept on this device, sealed, opened, sent and fetched. Implements specs/vault.md §2
to §9.

    file → sealing → content (ciphertext, in the folder `vault` and in rows) → uploads → every relay
    any relay → downloads → content → opening → file, or a part of it
"""
