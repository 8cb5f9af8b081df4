"""`cocoon-relay token new|list|revoke`: who may use this relay. A relay that serves follows within two seconds."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cocoon_core.errors import UsageError
from cocoon_relay import units
from cocoon_relay.config import Access
from cocoon_relay.settings import Settings
from cocoon_relay.tokens import TOKENS_NAME, Token, add_token, parse_day, read_tokens, revoke_token, today


def new(options: argparse.Namespace) -> int:
    """Make a token and show it, once."""
    settings: Settings = options.settings
    if options.kind is not None and options.kind not in settings.classes:
        known = ", ".join(sorted(settings.classes))
        raise UsageError(
            f"the settings have no class {options.kind!r}, only {known}; --config names the file with them"
        )
    if options.expires is not None and options.expires < today():
        raise UsageError(f"{options.expires} is over")
    own = sys.stdin.readline().strip() if options.stdin else None
    path = _find_file(options, make=True)
    token, text = add_token(path, options.name, expires=options.expires, kind=options.kind, text=own)
    if options.json:
        print(json.dumps(_shown(token) | ({} if own else {"token": text})))
        return 0
    if own is None:
        print(text)
        print("This is shown once. Members give it with the relay's address: cocoon group new … --token URL=TOKEN",
              file=sys.stderr)  # fmt: skip
    if settings["access"] is Access.ANYONE:
        print("Tokens are asked for where `access` is token or guest, or --access says so.", file=sys.stderr)
    return 0


def show(options: argparse.Namespace) -> int:
    """List tokens: never what they are, only what is kept of them."""
    tokens = read_tokens(_find_file(options))
    if options.json:
        print(json.dumps({"tokens": [_shown(token) for token in tokens]}))
        return 0
    for token in tokens:
        kind = f"  class {token.kind}" if token.kind else ""
        ends = f"  until {token.expires}" if token.expires else ""
        print(f"{token.id}  {token.name}  made {token.created}{ends}{'' if token.holds(today()) else ' (over)'}{kind}")
    if not tokens:
        print("no token yet", file=sys.stderr)
    return 0


def revoke(options: argparse.Namespace) -> int:
    """Remove a token; who came in by it is sent away."""
    token = revoke_token(_find_file(options), options.name)
    print(json.dumps({"revoked": _shown(token)}) if options.json else f"revoked {token.id}  {token.name}")
    return 0


def parse_end(text: str) -> str:
    """The last day of a token: a date, or so long from today."""
    try:
        return parse_day(text)
    except ValueError:
        pass
    try:
        return (datetime.now(UTC) + timedelta(seconds=units.parse_time(text))).date().isoformat()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date such as 2030-12-31 nor a time such as 90 days"
        ) from error


def _find_file(options: argparse.Namespace, *, make: bool = False) -> Path:
    data: Path = options.settings["data"]
    if make:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not data.is_dir():
        raise UsageError(f"{data} is not the data directory of a relay")
    return data / TOKENS_NAME


def _shown(token: Token) -> dict[str, str | None]:
    return {
        "id": token.id, "name": token.name, "class": token.kind, "created": token.created, "expires": token.expires,
    }  # fmt: skip
