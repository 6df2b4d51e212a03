"""Where blocking git work runs: in threads, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

P = ParamSpec("P")
T = TypeVar("T")

#: git is bound by disk and processors; more at once only makes each slower.
_AT_ONCE = 8
_limiter: RunVar[CapacityLimiter] = RunVar("workspace_threads")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread; cancellation waits for it, its calls have deadlines."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_AT_ONCE)
        _limiter.set(limiter)
    return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=limiter)
