"""What a run used of its model, as its program counts it. Pure.

Counts are of tokens, each counted once: what came from the provider's cache is not in `in`. Money is in
US dollars, and only where the program says it; nothing is estimated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    """

    fresh: int = 0
    out: int = 0
    cache: int = 0
    cost: float | None = None
    is_whole: bool = True

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
        """As a run carries it: `in`, `out`, `cache`, `cost`, and `partial` where it is not whole."""
        told = asdict(self)
        whole = told.pop("is_whole")
        return {"in": told.pop("fresh"), **told, **({} if whole else {"partial": True})}
