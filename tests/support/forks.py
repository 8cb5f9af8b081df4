"""Processes that tests kill: forked off one that has imported everything, so that each costs milliseconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any


def make_forks(*modules: str) -> ForkServerContext:
    """A context whose processes have imported these modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
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
