"""Which providers tell what their runs use: tokens, and money."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import InlineProvider, load_catalog

#: Dialects that have a place for money, of programs of which nothing else is said.
_MONEY = frozenset({"claude-stream", "opencode-json", "cline-json", "events"})


def teller(extra: Mapping[str, InlineProvider]) -> Callable[[str], tuple[bool, bool]]:
    """What answers for every provider by its name; one that is not known here tells nothing.

    Raises:
        ProviderError: a definition is wrong.
    """
    catalog = load_catalog(extra)

    def told(name: str) -> tuple[bool, bool]:
        try:
            definition = catalog.get(name)
        except ProviderError:
            return False, False
        tells_cost = definition.capabilities is None and definition.output.dialect in _MONEY
        return definition.can.usage, definition.can.cost or tells_cost

    return told
