"""Processes that tests start often or kill: forked off one that has imported everything, so that each costs
milliseconds.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

# There is one fork server in a process of tests, whoever comes first starts it, and what it lacks every child imports
# for itself: so it imports for all of them.
PRELOADED = (
    "tests.support.crash_children",
    "tests.support.relay_children",
    "tests.support.storage_children",
    "tests.support.commands",
)


def make_forks() -> ForkServerContext:
    """A context whose processes have imported these modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


@contextmanager
def a_child(forks: ForkServerContext, target: Any, *args: object) -> Iterator[tuple[Any, Connection]]:
    """A process that runs `target`, and the end of a pipe by which it tells; killed at the end if it still runs."""
    ours, theirs = forks.Pipe(duplex=False)
    child = forks.Process(target=target, args=(*args, theirs))
    child.start()
    theirs.close()
    try:
        yield child, ours
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


def tell_modules(tell: Connection) -> None:
    """What a child has imported that was asked for nothing else."""
    tell.send(set(sys.modules))
