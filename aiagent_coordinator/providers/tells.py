"""Which providers tell what their runs use: tokens, and money."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import InlineProvider, load_catalog


def teller(extra: Mapping[str, InlineProvider]) -> Callable[[str], tuple[bool, bool]]:
    """What answers for every provider by its name; one that is not known here tells nothing.

    Raises:
        ProviderError: a definition is wrong.
    """
    catalog = load_catalog(extra)

    def told(name: str) -> tuple[bool, bool]:
        try:
            can = catalog.get(name).can
        except ProviderError:
            return False, False
        return can.usage, can.cost

    return told
