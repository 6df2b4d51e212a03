"""What people may set: read from YAML into frozen models, every mistake told with file, line and key.

The names are loaded when first used, so that finding the file costs no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.config.find import find_config

if TYPE_CHECKING:
    from aiagent_coordinator.config.load import Loaded, load_settings
    from aiagent_coordinator.config.models import (
        AgentSettings,
        AskSettings,
        ProjectSettings,
        ProviderSettings,
        RetrySettings,
        Settings,
    )

__all__ = [
    "AgentSettings",
    "AskSettings",
    "Loaded",
    "ProjectSettings",
    "ProviderSettings",
    "RetrySettings",
    "Settings",
    "find_config",
    "load_settings",
]

_HOMES = {"Loaded": "load", "load_settings": "load"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the language says so
    """Import the part of the package that holds the name."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'models')}"), name)
