"""Every setting of a relay, declared once: command line, environment, file and its documentation come from this table.

A setting `topic_bytes` is `--topic-bytes` on the command line, `COCOON_RELAY_TOPIC_BYTES` in the environment and
`topic_bytes` in the file (a limit: under `[limits]`). The first of these that gives it counts, whole: lists are not
joined. Whatever is wrong is said with the place and the name. Implements relay/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from cocoon_core.errors import UsageError
from cocoon_relay import units
from cocoon_relay.config import Access, parse_database, parse_listen, parse_origin, split_bucket
from cocoon_relay.limits import GUEST, GUEST_CHANGES, Limits, LimitSpec, Unit

PREFIX: Final = "COCOON_RELAY_"
CONFIG_VARIABLE: Final = PREFIX + "CONFIG"
FILES: Final = "files"
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "1": True,
    "on": True,
    "false": False,
    "no": False,
    "0": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `parse` raises ValueError with what the value must be; `show` gives it as the file writes it."""

    key: str
    metavar: str
    default: Any
    text: str
    parse: Callable[[object], Any]
    show: Callable[[Any], str]
    limit: LimitSpec | None = None

    @property
    def option(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper()


@dataclass(frozen=True, slots=True)
class Given:
    """One value that somebody gave, and where."""

    value: Any
    place: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings in force. `given` holds those that are not defaults, by key; `classes` the limits of each class."""

    values: Mapping[str, Any]
    given: Mapping[str, Given]
    limits: Limits
    classes: Mapping[str, Limits]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


# --- how a value is read and shown


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is text, and not empty")
    return value.strip()


def _parse_folder(value: object) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is the name of a folder, and not empty")
    return Path(value)


def _parse_flag(value: object) -> bool:
    known = value if isinstance(value, bool) else _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise ValueError("is true or false")
    return known


def _parse_address(value: object) -> str:
    text = _parse_text(value)
    parse_listen(text)
    return text


def _parse_origins(value: object) -> tuple[str, ...]:
    """A list; on one line they stand with spaces or commas between."""
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("is a list of URLs")
    return tuple(parse_origin(word) for word in words)


def _parse_databases(value: object) -> tuple[str, ...]:
    """A list; on one line they stand with spaces between."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("is a list of URLs")
    return tuple(parse_database(word) for word in words)


def _parse_blobs(value: object) -> str:
    text = _parse_text(value)
    if text != FILES:
        split_bucket(text)
    return text


def _choice(*names: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in names:
            raise ValueError(f"is one of {', '.join(names)}")
        return str(value)

    return parse


def _quote(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _show_flag(value: bool) -> str:
    return "true" if value else "false"


def _show_list(value: Sequence[str]) -> str:
    return f"[{', '.join(map(_quote, value))}]"


_UNITS: Final[dict[Unit, tuple[str, Callable[[object], float], Callable[[float], str]]]] = {
    Unit.COUNT: ("NUMBER", units.parse_count, units.show_count),
    Unit.SIZE: ("SIZE", units.parse_size, units.show_size),
    Unit.TIME: ("TIME", units.parse_time, units.show_time),
    Unit.RATE: ("RATE", units.parse_rate, units.show_rate),
    Unit.SIZE_RATE: ("RATE", units.parse_size_rate, units.show_size_rate),
}


def _limit_setting(key: str, default: float, spec: LimitSpec) -> Setting:
    metavar, read, shown = _UNITS[spec.unit]

    def parse(value: object) -> float:
        number = read(value)
        if number < spec.least:
            raise ValueError(f"is at least {shown(spec.least)}")
        if number > spec.most:
            raise ValueError(f"is at most {shown(spec.most)}")
        return int(number) if isinstance(default, int) else float(number)

    show = shown if spec.unit is Unit.COUNT else lambda value: _quote(shown(value))
    return Setting(key, metavar, default, spec.text, parse, show, spec)


SETTINGS: Final = (
    Setting("listen", "HOST:PORT", "127.0.0.1:8787", "where to listen; port 0 takes a free one and prints it",
            _parse_address, _quote),
    Setting("data", "DIR", None, "where everything is kept; made with mode 0700", _parse_folder, _quote),
    Setting("database", "URL", (), "where topics are kept: postgresql://USER@HOST/NAME, which any number of relays may "
            "serve at once; the password comes from PGPASSWORD or PGPASSFILE. Given again, topics are spread over all. "
            "Default: SQLite in the data directory", _parse_databases, _show_list),
    Setting("blobs", "URL", FILES, "where blobs are kept: files in the data directory, or s3://BUCKET/FOLDER; keys, "
            "region and endpoint come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
            _parse_blobs, _quote),
    Setting("origin", "URL", (), "the URL that members use; give it once for each. Default: the address it listens at, "
            "for loopback all its names", _parse_origins, _show_list),
    Setting("behind_proxy", "", False, "take the client's address from the last entry of X-Forwarded-For",
            _parse_flag, _show_flag),
    Setting("access", "WHO", Access.ANYONE, "anyone: whoever reaches it; token: with an access token alone; guest: "
            "without one too, within the limits of the class guest", lambda value: Access(_choice(*Access)(value)),
            _quote),
    Setting("log", "FORM", "text", "text, or json: one object a line, on standard error", _choice("text", "json"),
            _quote),
    Setting("log_level", "LEVEL", "warning", "warning: what needs you; info: also rounds of gc, starts and ends",
            _choice("info", "warning"), _quote),
    Setting("log_addresses", "", False, "write the addresses of those who connect, go and are refused, to find a "
            "fault; topics never. By default no address is written anywhere", _parse_flag, _show_flag),
)  # fmt: skip
LIMIT_SETTINGS: Final = tuple(
    _limit_setting(field.name, field.default, field.metadata["spec"])  # type: ignore[arg-type]
    for field in fields(Limits)
)
ALL_SETTINGS: Final = {setting.key: setting for setting in (*SETTINGS, *LIMIT_SETTINGS)}


# --- reading


def read_settings(
    words: Mapping[str, Any], environment: Mapping[str, str], config: Path | None, *, needs_data: bool = True
) -> Settings:
    """Put together what the command line, the environment and the file give.

    Args:
        words: what the command line gave, by key; None where it did not.
        environment: all variables; those that do not begin with `COCOON_RELAY_` are not looked at.
        config: the file; None for the one that the environment names, or none.

    Raises:
        UsageError: something is wrong; it says where.
        OSError: the file cannot be read.
    """
    named = environment.get(CONFIG_VARIABLE)
    path = config if config is not None else Path(named) if named else None
    given, classes = _read_file(path) if path is not None else ({}, {})
    given |= _read_environment(environment)
    for key, value in words.items():
        if value is not None:
            setting = ALL_SETTINGS[key]
            given[key] = Given(_parse(setting, value, setting.option), "the command line")
    values = {key: setting.default for key, setting in ALL_SETTINGS.items()}
    values |= {key: one.value for key, one in given.items()}
    if needs_data and values["data"] is None:
        raise UsageError(f"--data DIR says where everything is kept; give it, {PREFIX}DATA, or `data` in a file")
    limits = Limits(**{setting.key: values[setting.key] for setting in LIMIT_SETTINGS})
    return Settings(values, given, limits, _make_classes(limits, classes))


def _read_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    variables = {setting.variable: setting for setting in ALL_SETTINGS.values()}
    given = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE:
            continue
        if name not in variables:
            raise UsageError(f"{name} is no setting of this relay{_suggest(name, variables)}")
        setting = variables[name]
        given[setting.key] = Given(_parse(setting, text, name), f"{name} of the environment")
    return given


def _read_file(path: Path) -> tuple[dict[str, Given], dict[str, dict[str, Any]]]:
    """The settings of a file, and what it says of each class."""
    import tomllib

    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    limits, classes = tree.pop("limits", {}), tree.pop("classes", {})
    if not isinstance(limits, dict) or not isinstance(classes, dict):
        raise UsageError(f"{path}: limits and classes are tables: [limits], [classes.NAME]")
    given = _read_table(path, "", tree, {setting.key: setting for setting in SETTINGS})
    known = {setting.key: setting for setting in LIMIT_SETTINGS}
    given |= _read_table(path, "limits.", limits, known)
    own = {key: setting for key, setting in known.items() if setting.limit is not None and setting.limit.by_class}
    found = {}
    for name, table in classes.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: classes.{name} is a table: [classes.{name}]")
        found[name] = {key: one.value for key, one in _read_table(path, f"classes.{name}.", table, own).items()}
    return given, found


def _read_table(path: Path, where: str, table: Mapping[str, Any], known: Mapping[str, Setting]) -> dict[str, Given]:
    given = {}
    for key, value in table.items():
        place = f"{path}: {where}{key}"
        if key in known:
            given[key] = Given(_parse(known[key], value, place), str(path))
        elif key in ALL_SETTINGS and where.startswith("classes."):
            raise UsageError(f"{place} is not a limit that a class may have; it holds for all")
        elif key in ALL_SETTINGS:
            right = f"limits.{key}" if ALL_SETTINGS[key].limit is not None else f"{key}, above the tables"
            raise UsageError(f"{place} is written as {right}")
        else:
            raise UsageError(f"{place} is no setting of this relay{_suggest(key, known)}")
    return given


def _parse(setting: Setting, value: object, place: str) -> Any:
    try:
        return setting.parse(value)
    except ValueError as error:
        shown = value[-1] if isinstance(value, list) and len(value) == 1 else value
        raise UsageError(f"{place} {error}, not {shown!r}") from error


def _suggest(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _make_classes(limits: Limits, given: Mapping[str, dict[str, Any]]) -> dict[str, Limits]:
    """The limits of each class: those of all, but for what the class has of its own. There is always one for guests.

    A guest gets nothing that others do not: where the operator set a limit below the guest's default, that one holds.
    """
    guest = {key: min(value, getattr(limits, key)) for key, value in GUEST_CHANGES.items()}
    guest["free_bytes"] = max(GUEST_CHANGES["free_bytes"], limits.free_bytes)
    changes = {GUEST: guest | given.get(GUEST, {})} | {name: own for name, own in given.items() if name != GUEST}
    return {name: replace(limits, **own) for name, own in changes.items()}
