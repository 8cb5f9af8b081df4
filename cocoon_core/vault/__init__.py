"""Files and their encrypted chunks. Nothing is here yet: the vault comes with a later version."""
