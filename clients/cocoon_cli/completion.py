"""`completion`: what a shell needs to complete commands, options, names and ids."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cocoon_cli.arguments import Commands
from cocoon_cli.bash_words import is_redirected, read_parts
from cocoon_cli.completing import FILES, Answer, complete, name_ids, name_things
from cocoon_cli.context import Context
from cocoon_cli.output import Outcome, Output, Printed
from cocoon_core.errors import CocoonError

ANSWER, ANSWER_BASH = "answer", "answer-bash"  # in the place of a shell: what the scripts below ask for
MOST_LOOKED_UP = "40"  # posts or items
OF_POSTS = {  # commands whose ids are those of posts
    *("answer", "delete", "edit", "erase", "feed", "hide", "pin", "post"),
    *("reply", "solve", "thread", "unhide", "unpin", "versions"),
}
TOGETHER = {"LIST": ("list", "lists"), "NOTE": ("note", "notes"), "EVENT": ("event", "events")}  # command and key
ASKS = {"CALL": "call", "QUESTION": "question"}

# None of them ever reads what it is answered as a line of the shell: it is split at tabs, compared, and handed to what
# shows it or puts it, quoted, into the line. bash shows words beside an id only where it lists, and inserts nothing.
BASH = """\
# cocoon completion bash; for this shell: source <(cocoon completion bash)
_cocoon() {
    local line called=$1
    [[ $called == '~/'* ]] && called=$HOME/${called:2}
    case $(type -t -- "$called") in
        file | function) ;;
        *) called=cocoon ;;
    esac
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default ;;
            :folders) compopt -o dirnames ;;
            *)
                if [[ ${COMP_TYPE-} == 63 ]]; then
                    COMPREPLY+=("${line/$'\\t'/  }")
                else
                    COMPREPLY+=("${line%%$'\\t'*}")
                fi
                ;;
        esac
    done < <("$called" completion answer-bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" </dev/null 2>/dev/null)
}
complete -o nosort -F _cocoon cocoon 2>/dev/null || complete -F _cocoon cocoon
"""
ZSH = """\
#compdef cocoon
# cocoon completion zsh; for this shell: source <(cocoon completion zsh)
_cocoon() {
    local line called=${(Q)words[1]}
    local -a found
    [[ $called == '~/'* ]] && called=$HOME/${called[3,-1]}
    (( $+commands[$called] || $+functions[$called] )) || [[ $called == */* && -x $called ]] || called=cocoon
    for line in "${(@f)$("$called" completion answer -- \\
        "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" </dev/null 2>/dev/null)}"; do
        case $line in
            '') ;;
            :files) compset -P '--*='; _files; return ;;
            :folders) compset -P '--*='; _files -/; return ;;
            *$'\\t'*) found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}") ;;
            *) found+=("${line//:/\\\\:}") ;;
        esac
    done
    (( $#found )) && _describe -V 'what may stand here' found
}
if [[ ${funcstack[1]} == _cocoon ]]; then
    _cocoon "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _cocoon cocoon
fi
"""
FISH = """\
# cocoon completion fish; for this shell: cocoon completion fish | source
function __cocoon_ask
    set -g __cocoon_found
    set -l before (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l current (commandline -ct)
    set -l plain (string unescape -- $current 2>/dev/null; or string trim -l -c '"\\'' -- $current)
    set -l called $before[1]
    type -q -- $called; or set called cocoon
    set -e before[1]
    set -l answers ($called completion answer -- $before "$plain" </dev/null 2>/dev/null)
    switch "$answers[1]"
        case ':files'
            return 1
        case ':folders'
            set -l option (string match -r -- '^--[^=]*=' $current)
            set -l begun (string replace -r -- '^--[^=]*=' '' $current)
            set -g __cocoon_found "$option"(__fish_complete_directories "$begun")
        case '*'
            set -g __cocoon_found $answers
    end
    return 0
end
complete -c cocoon -n __cocoon_ask -f -k -a '$__cocoon_found'
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
    completion.add_argument(
        "shell", metavar="bash|zsh|fish", choices=[*SCRIPTS, ANSWER, ANSWER_BASH], help="your shell"
    )
    completion.add_argument("words", nargs="*", help=argparse.SUPPRESS)


def run_completion(context: Context, args: argparse.Namespace) -> Outcome | Printed:
    """Print a script, or answer one."""
    if args.shell in (ANSWER, ANSWER_BASH):
        from cocoon_cli.main import build_parser  # which knows this module

        words, left = read_parts(args.words) if args.shell == ANSWER_BASH else (args.words, "")
        if args.shell == ANSWER_BASH and is_redirected(args.words):
            return Printed(f"{FILES}\n", "", 0)
        answers = complete(build_parser(), words, lambda kind, path: _look_up(context, words, kind, path))
        return Printed(
            "".join("\t".join(filter(None, (value.removeprefix(left), what))) + "\n" for value, what in answers), "", 0
        )
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
            return list(name_ids([(post["id"], f"{post['author']}: {post['text']}") for post in posts]))
        if kind == "ID" and path[:1] == ["vault"]:
            items = _ask(context, words, "vault", "list", "--limit", MOST_LOOKED_UP)["items"]
            return list(name_ids([(item["id"], item["name"]) for item in items]))
        if kind == "ID" and path and path[0] in OF_POSTS:
            posts = _ask(context, words, "feed", "--limit", MOST_LOOKED_UP)["posts"]
            return list(name_ids([(post["id"], f"{post['author']}: {post['text']}") for post in posts]))
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
