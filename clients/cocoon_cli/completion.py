"""`completion`: what a shell needs to complete commands, options, names and ids."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cocoon_cli.arguments import Commands
from cocoon_cli.completing import Answer, complete, name_things
from cocoon_cli.context import Context
from cocoon_cli.output import Outcome, Output, Printed
from cocoon_core.errors import CocoonError

ANSWER = "answer"  # in the place of a shell: what the scripts below ask for
MOST_LOOKED_UP = "40"  # posts or items
OF_POSTS = {  # commands whose ids are those of posts
    *("answer", "delete", "edit", "erase", "feed", "hide", "pin", "post"),
    *("reply", "solve", "thread", "unhide", "unpin", "versions"),
}
TOGETHER = {"LIST": ("list", "lists"), "NOTE": ("note", "notes"), "EVENT": ("event", "events")}  # command and key
ASKS = {"CALL": "call", "QUESTION": "question"}

BASH = """\
# cocoon completion bash; for this shell: source <(cocoon completion bash)
_cocoon() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default ;;
            :folders) compopt -o dirnames ;;
            *) COMPREPLY+=("${line%%$'\\t'*}") ;;
        esac
    done < <("$1" completion answer -- "${COMP_WORDS[@]:1:COMP_CWORD}" </dev/null 2>/dev/null)
}
complete -F _cocoon cocoon
"""
ZSH = """\
#compdef cocoon
# cocoon completion zsh; for this shell: source <(cocoon completion zsh)
_cocoon() {
    local line
    local -a values shown
    for line in "${(@f)$(${words[1]} completion answer -- "${(@)words[2,CURRENT]}" </dev/null 2>/dev/null)}"; do
        case $line in
            '') ;;
            :files) _files; return ;;
            :folders) _files -/; return ;;
            *) values+=("${line%%$'\\t'*}"); shown+=("${line/$'\\t'/  -- }") ;;
        esac
    done
    (( ${#values} )) && compadd -l -d shown -a values
}
if [[ ${funcstack[1]} == _cocoon ]]; then
    _cocoon "$@"
else
    compdef _cocoon cocoon
fi
"""
FISH = """\
# cocoon completion fish; for this shell: cocoon completion fish | source
function __cocoon_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -e before[1]
    for line in (cocoon completion answer -- $before "$current" </dev/null 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path $current
            case ':folders'
                __fish_complete_directories $current
            case '*'
                echo $line
        end
    end
end
complete -c cocoon -f -a '(__cocoon_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def add_commands(commands: Commands) -> None:
    """Add `completion`."""
    completion = commands.add(
        "completion",
        run_completion,
        "let your shell complete commands, options, names and ids: prints a script for it",
        "Names of groups and members, and ids of what is newest, are looked up in the profile as you press the key, if "
        "it opens without being asked for a passphrase.",
        examples=[
            "source <(cocoon completion bash)      (in ~/.bashrc)",
            "source <(cocoon completion zsh)       (in ~/.zshrc, after compinit)",
            "cocoon completion fish | source       (in ~/.config/fish/config.fish)",
        ],
    )
    completion.add_argument("shell", metavar="bash|zsh|fish", choices=[*SCRIPTS, ANSWER], help="your shell")
    completion.add_argument("words", nargs="*", help=argparse.SUPPRESS)


def run_completion(context: Context, args: argparse.Namespace) -> Outcome | Printed:
    """Print a script, or answer one."""
    if args.shell == ANSWER:
        from cocoon_cli.main import build_parser  # which knows this module

        answers = complete(build_parser(), args.words, lambda kind, path: _look_up(context, args.words, kind, path))
        return Printed("".join("\t".join(filter(None, answer)) + "\n" for answer in answers), "", 0)
    script = SCRIPTS[args.shell]
    if context.output.as_json:
        return Outcome(data={"shell": args.shell, "script": script}, draw=lambda screen: None)
    return Printed(script, "", 0)


# --- what stands in the profile


def _look_up(context: Context, words: Sequence[str], kind: str, path: Sequence[str]) -> Sequence[Answer]:
    """Names or ids of what is asked for; nothing where the profile cannot be opened just so."""
    with suppress(CocoonError, OSError, ValueError, KeyError):
        if kind == "G":
            groups = _ask(context, words, "group", "list")["groups"]
            return list(name_things([(group["id"], group["name"]) for group in groups]))
        if kind == "MEMBER":
            members = _ask(context, words, "members")["members"]
            return list(name_things([(member["id"], member["name"]) for member in members]))
        if kind in TOGETHER:
            command, key = TOGETHER[kind]
            return list(name_things([(one["id"], one["name"]) for one in _ask(context, words, command, "show")[key]]))
        if kind in ASKS:
            posts = [post for post in _ask(context, words, "asked")["posts"] if post["ask"] == ASKS[kind]]
            return [(post["id"][:8], f"{post['author']}: {post['text']}") for post in posts]
        if kind == "ID" and path[:1] == ["vault"]:
            items = _ask(context, words, "vault", "list", "--limit", MOST_LOOKED_UP)["items"]
            return [(item["id"][:8], item["name"]) for item in items]
        if kind == "ID" and path and path[0] in OF_POSTS:
            posts = _ask(context, words, "feed", "--limit", MOST_LOOKED_UP)["posts"]
            return [(post["id"][:8], f"{post['author']}: {post['text']}") for post in posts]
    return []


def _ask(context: Context, words: Sequence[str], *command: str) -> Mapping[str, Any]:
    """What a command gives to scripts, in the profile and group that the call names."""
    asked = ["--json", *_settings(words), *command]
    args = context.parse(asked)
    quiet = replace(
        context,
        home=getattr(args, "home", None) or context.home,
        group=getattr(args, "group", None) or context.group,
        output=Output(as_json=True),
        words=asked,
    )
    done: Outcome | Printed = args.run(quiet, args)
    if isinstance(done, Outcome):
        return done.data
    found: dict[str, Any] = json.loads(done.out)
    return found


def _settings(words: Sequence[str]) -> list[str]:
    """The options of a call that say which profile and group are meant."""
    found = []
    for name in ("--home", "--group"):
        for place, word in enumerate(words[:-1]):
            if word.startswith(f"{name}="):
                found.append(word)
            elif word == name and place + 2 < len(words):
                found += [name, words[place + 1]]
    return found
