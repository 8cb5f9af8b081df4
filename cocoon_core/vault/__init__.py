"""Files, and what members add: encrypted chunks, names and types, photos, media and links. Spec: specs/media.md."""
