"""What runs a command: one protocol, handles that survive the coordinator."""

from __future__ import annotations

from collections.abc import Callable

from aiagent_coordinator.errors import ExecutorError
from aiagent_coordinator.executors.base import Executor


def _local() -> Executor:
    from aiagent_coordinator.executors.local import LocalExecutor  # noqa: PLC0415 - on demand

    return LocalExecutor()


#: Executors by name; a module is imported when its executor is made.
EXECUTORS: dict[str, Callable[[], Executor]] = {"local": _local}


def make_executor(name: str) -> Executor:
    """Make the named executor.

    Raises:
        ExecutorError: there is none of that name.
    """
    try:
        return EXECUTORS[name]()
    except KeyError:
        known = ", ".join(sorted(EXECUTORS))
        raise ExecutorError(f"unknown executor {name!r}; there is: {known}") from None
