"""What a run used of its model, as its program counts it. Pure.

Counts are of tokens, each counted once: what came from the provider's cache is not in `in`. Money is in
US dollars, and only where the program says it; nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens and money of one run.

    Attributes:
        fresh: Tokens read that were in no cache.
        out: Tokens written, thought ones too.
        cache: Tokens read from the provider's cache, or written into it.
        cost: US dollars; None where the CLI does not say.
        is_whole: False where it ended before it told its total: it is what its steps told.
        model: The one model that it says it works with; None where it does not say, or says it of each.
        models: The same of each model, where it says so; the parts need not be all of it.
    """

    fresh: int = 0
    out: int = 0
    cache: int = 0
    cost: float | None = None
    is_whole: bool = True
    model: str | None = None
    models: Mapping[str, Usage] = field(default_factory=dict[str, "Usage"])

    def __add__(self, other: Usage) -> Usage:
        costs = [one for one in (self.cost, other.cost) if one is not None]
        return Usage(
            self.fresh + other.fresh,
            self.out + other.out,
            self.cache + other.cache,
            sum(costs) if costs else None,
            self.is_whole and other.is_whole,
        )

    def as_json(self) -> dict[str, Any]:
        """As a run carries it: `in`, `out`, `cache`, `cost`, `partial` where it is not whole, and `model` or `models`."""
        told: dict[str, Any] = {
            "in": self.fresh,
            "out": self.out,
            "cache": self.cache,
            "cost": self.cost,
        }
        if not self.is_whole:
            told["partial"] = True
        if self.models:
            told["models"] = {name: one.as_json() for name, one in self.models.items()}
        elif self.model:
            told["model"] = self.model
        return told
