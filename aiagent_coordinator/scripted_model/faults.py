"""What may go wrong with the scripted model: when it does, for how long, and what it then answers."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from aiagent_coordinator.scripted_model.turns import Json

#: What stands in headers and bodies for the end of a fault that lasts: seconds of the epoch, seconds
#: left, an instant. As the whole of a text in a body it becomes the number.
EPOCH: Final = "{epoch}"
LEFT: Final = "{left}"
INSTANT: Final = "{instant}"


@dataclass
class Fault:
    """What goes wrong, from which turn on, how often, and for how long."""

    kind: str = ""
    after: int = 0
    times: int | None = None
    status: int = 429
    headers: tuple[tuple[str, str], ...] = ()
    body: Json | None = None
    #: Seconds from the first request that it strikes; None: it has no end.
    lasts: float | None = None
    #: When it is over, in seconds of the epoch; None: it has not begun, or has no end.
    ends_at: float | None = None

    def strikes(self, made: int) -> bool:
        """Whether it strikes a request with so many calls behind it; counts the times."""
        if not self.kind or self.times == 0:
            return False
        now = time.time()
        if self.ends_at is not None and now >= self.ends_at:
            return False
        # who begins a new conversation is at the limit as well
        if self.ends_at is None and made < self.after:
            return False
        if self.times is not None:
            self.times -= 1
        if self.lasts is not None and self.ends_at is None:
            # a whole second, as that is what is told
            self.ends_at = math.ceil(now + self.lasts)
        return True

    def filled_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers, with when it ends."""
        return tuple((name, self._filled(value)) for name, value in self.headers)

    def filled_body(self) -> Json | None:
        """The body, with when it ends."""
        if self.body is None:
            return None
        text = json.dumps(self.body)
        for word in (EPOCH, LEFT):
            text = text.replace(f'"{word}"', self._filled(word))
        return cast("Json", json.loads(self._filled(text)))

    def _filled(self, text: str) -> str:
        if self.ends_at is None:
            return text
        left = max(0, math.ceil(self.ends_at - time.time()))
        end = datetime.fromtimestamp(self.ends_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            text.replace(EPOCH, str(int(self.ends_at)))
            .replace(LEFT, str(left))
            .replace(INSTANT, end)
        )
