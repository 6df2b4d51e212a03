"""Which providers tell what their runs use: tokens, and money."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import InlineProvider, load_catalog
from aiagent_coordinator.providers.shape import Definition

#: Dialects in which tokens, and money, are told.
_TOKENS = frozenset(
    {
        *("claude-stream", "codex-json", "gemini-stream", "opencode-json", "qwen-stream"),
        *("cline-json", "events"),
    }
)
_MONEY = frozenset({"claude-stream", "opencode-json", "cline-json", "events"})


def tells(definition: Definition) -> tuple[bool, bool]:
    """Whether a program tells the tokens, and the money, that its runs use."""
    can = getattr(definition, "capabilities", None)
    usage, cost = getattr(can, "usage", None), getattr(can, "cost", None)
    dialect = definition.output.dialect
    return (
        usage if isinstance(usage, bool) else dialect in _TOKENS,
        cost if isinstance(cost, bool) else dialect in _MONEY,
    )


def teller(extra: Mapping[str, InlineProvider]) -> Callable[[str], tuple[bool, bool]]:
    """What answers for every provider by its name; one that is not known here tells nothing.

    Raises:
        ProviderError: a definition is wrong.
    """
    catalog = load_catalog(extra)

    def told(name: str) -> tuple[bool, bool]:
        try:
            return tells(catalog.get(name))
        except ProviderError:
            return False, False

    return told
