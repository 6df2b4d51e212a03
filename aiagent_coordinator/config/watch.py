"""The configuration file is looked at while the program runs: what is good is given on, what is not is told.

Its content is compared every second, so links, replaced files and editors that write twice all count
alike; a change is taken when the content has stayed the same for one look.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import anyio
import anyio.to_thread

from aiagent_coordinator.config.explain import about, leaves
from aiagent_coordinator.config.fields import Reload
from aiagent_coordinator.config.load import Loaded, load_settings
from aiagent_coordinator.config.models import Settings
from aiagent_coordinator.config.source import MAX_BYTES, KeyPath, dotted
from aiagent_coordinator.errors import ConfigError

#: How often the file is looked at.
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Origin:
    """What settings are read with besides the file: the same at every reading."""

    overrides: Mapping[str, str] | None = None
    known_providers: Collection[str] | None = None


class Nudge:
    """Somebody's wish that the file be read now, changed or not."""

    def __init__(self) -> None:
        self._wished = anyio.Event()

    def now(self) -> None:
        """Wish it; may be called before anybody watches."""
        self._wished.set()

    async def within(self, seconds: float) -> bool:
        """Wait for a wish, at most so long; say whether there was one, and forget it."""
        with anyio.move_on_after(seconds):
            await self._wished.wait()
        if not self._wished.is_set():
            return False
        self._wished = anyio.Event()
        return True


async def watch(
    loaded: Loaded,
    origin: Origin,
    *,
    nudge: Nudge | None = None,
    poll_seconds: float = POLL_SECONDS,
) -> AsyncGenerator[Loaded | ConfigError]:
    """Yield the settings whenever they changed, and the error whenever they cannot be used any more.

    After an error the settings that were yielded last stay in force. Without a file only a nudge
    leads to anything.

    Args:
        loaded: The settings in force.
        origin: What they were read with.
        nudge: Lets them be read at once; they are then yielded whether they changed or not.
        poll_seconds: How often to look.
    """
    file = loaded.file
    nudge = nudge or Nudge()
    if file is None:
        poll_seconds = math.inf
    known = seen = await anyio.to_thread.run_sync(_digest, loaded)
    read = partial(
        load_settings, file, overrides=origin.overrides, known_providers=origin.known_providers
    )
    while True:
        nudged = await nudge.within(poll_seconds)
        before, seen = seen, await anyio.to_thread.run_sync(_digest, loaded)
        if not nudged and (seen != before or seen == known):
            continue  # it is still being written, or nothing changed
        known = seen
        try:
            fresh = await anyio.to_thread.run_sync(read)
        except ConfigError as error:
            yield error
            continue
        if nudged or fresh.settings != loaded.settings:
            loaded = fresh
            yield fresh


def changes(before: Settings, after: Settings) -> dict[Reload, tuple[str, ...]]:
    """The keys whose values differ, by when a change of them counts; secrets are only named."""
    old, new = dict(leaves(before)), dict(leaves(after))
    found: dict[Reload, list[str]] = {}
    for key in sorted({*old, *new}, key=dotted):
        if old.get(key) != new.get(key):
            found.setdefault(_reload(key, old, new), []).append(dotted(key))
    return {when: tuple(keys) for when, keys in found.items()}


def _reload(key: KeyPath, old: Mapping[KeyPath, object], new: Mapping[KeyPath, object]) -> Reload:
    if key not in old or key not in new:
        return "live"  # an agent or a project came or went: that counts at once
    return cast("Reload", about(key).reload)


def _digest(loaded: Loaded) -> bytes:
    """What the file holds, in short; empty when it cannot be read."""
    if loaded.file is None or not loaded.file.is_file():
        return b""
    try:
        with loaded.file.open("rb") as stream:
            return hashlib.sha256(stream.read(MAX_BYTES + 1)).digest()
    except OSError:
        return b""
