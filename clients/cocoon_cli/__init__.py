"""The `cocoon` command: the core's public names, put into words for people and into JSON for scripts.

A command opens the profile, does one thing through the façade and gives an `Outcome`; `main` alone prints and exits.
A call loads the module of its own command: `main.FAMILIES` says which commands stand where.
"""
