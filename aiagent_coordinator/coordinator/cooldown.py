"""Pairs that failed rest for a while, longer each time; pairs that answer nothing sensible do too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.providers.told import told

#: A pair whose answer could not be used is left alone this long at first.
SKIP_SECONDS = 10.0
_MOST_DOUBLINGS = 6

Pair = tuple[str, str]


@dataclass(frozen=True)
class ErrorProtection:
    """How failures are treated; the keys of `error_protection`."""

    enabled: bool = True
    default_cooldown_seconds: float = 60.0
    max_cooldown_seconds: float = 3600.0
    quota_detection_enabled: bool = True
    quota_margin_percent: float = 10.0


@dataclass
class _Rest:
    reason: str
    until: float
    failures: int


@dataclass
class Cooldowns:
    """What rests, by agent and project. In memory: a new life tries anew."""

    policy: ErrorProtection
    monotonic: Callable[[], float]
    now: Callable[[], datetime] = SystemClock().now
    _rests: dict[Pair, _Rest] = field(default_factory=dict[Pair, "_Rest"])

    def failed(self, pair: Pair, text: str) -> None:
        """A run of this pair failed with this text."""
        if not self.policy.enabled:
            return
        limit = None
        if self.policy.quota_detection_enabled:
            limit = told(
                text,
                self.now().astimezone(),
                margin_percent=self.policy.quota_margin_percent,
                most_seconds=self.policy.max_cooldown_seconds,
            )
        if limit is not None:
            self._put(pair, limit.reason, limit.seconds)
        else:
            self._put(pair, "failed", self._growing(pair, self.policy.default_cooldown_seconds))

    def skipped(self, pair: Pair, reason: str) -> None:
        """The server gave no sensible answer for this pair."""
        self._put(pair, reason, self._growing(pair, SKIP_SECONDS))

    def worked(self, pair: Pair) -> None:
        """Nothing stands against it any more."""
        self._rests.pop(pair, None)

    def reason(self, pair: Pair) -> str | None:
        """Why a pair rests now; None when it does not."""
        rest = self._rests.get(pair)
        if rest is None or rest.until <= self.monotonic():
            return None
        return f"{rest.reason}: rests for {rest.until - self.monotonic():.0f} s"

    def _growing(self, pair: Pair, first: float) -> float:
        before = self._rests.get(pair)
        doublings = min(before.failures if before else 0, _MOST_DOUBLINGS)
        return min(first * 2.0**doublings, self.policy.max_cooldown_seconds)

    def _put(self, pair: Pair, reason: str, seconds: float) -> None:
        before = self._rests.get(pair)
        failures = (before.failures if before else 0) + 1
        self._rests[pair] = _Rest(reason, self.monotonic() + seconds, failures)
