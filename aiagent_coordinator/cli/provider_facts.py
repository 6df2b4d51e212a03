"""What `provider show` says of a definition: where it comes from, its options, and what was changed of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from aiagent_coordinator.messages import text
from aiagent_coordinator.providers import options
from aiagent_coordinator.providers.catalog import load_catalog, shipped_folder, user_folder
from aiagent_coordinator.redaction import MASK

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded
    from aiagent_coordinator.providers.catalog import Catalog
    from aiagent_coordinator.providers.definition import Definition


def facts_of(catalog: Catalog, name: str, loaded: Loaded) -> dict[str, Any]:
    """Everything about one definition, ready for JSON."""
    definition = catalog.get(name)
    checked = definition.checked
    return {
        "origin": _origin(name, loaded),
        "source": definition.source,
        "checked": {
            "version": checked.version if checked else "",
            "on": checked.on if checked else "",
            "versions": definition.can.versions,
        },
        "capabilities": dataclasses.asdict(definition.can),
        "approval": list(definition.can.approval),
        "mcp": {"style": definition.mcp.style.value, "tool_timeout": definition.mcp.tool_timeout},
        "dialect": definition.output.dialect,
        "state_paths": list(definition.limits.state_paths),
        "options": _options(definition, catalog, loaded),
        "extra_args": list(catalog.extra_args(name)),
        "differences": _differences(definition, loaded),
    }


def _origin(name: str, loaded: Loaded) -> str:
    """Where the definition is written."""
    entry = loaded.settings.ai_providers.get(name)
    base = (entry.like if entry else None) or name
    place = ""
    for folder, kind in ((user_folder(), "user"), (shipped_folder(), "shipped")):
        file = folder / f"{base}.toml"
        if file.is_file():
            place = text(f"provider.origin.{kind}", file=file)
            break
    if entry is None:
        return place
    where = loaded.origins.get(f"ai_providers.{name}") or str(loaded.file)
    return text("provider.origin.inline", place=where, base=place or base)


def _options(definition: Definition, catalog: Catalog, loaded: Loaded) -> list[dict[str, Any]]:
    chosen = catalog.chosen(definition.name)
    in_force = options.in_force(definition, chosen)
    lines: list[dict[str, Any]] = []
    for name in sorted(options.supported(definition) - {options.EXTRA_ARGS}):
        known = definition.options.get(name)
        value = MASK if name in chosen.secrets else in_force.get(name)
        key = f"ai_providers.{definition.name}.{name}"
        lines.append(
            {
                "name": name,
                "value": list(value) if isinstance(value, tuple) else value,
                "is_list": isinstance(value, tuple),
                "origin": loaded.origins.get(key, "default"),
                "allowed": list(known.allowed) if known else [],
                "note": known.note if known else "",
            }
        )
    return lines


def _differences(definition: Definition, loaded: Loaded) -> list[str]:
    """What of the shipped definition of its name is otherwise here."""
    entry = loaded.settings.ai_providers.get(definition.name)
    base = (entry.like if entry else None) or definition.name
    shipped = load_catalog(user=shipped_folder())
    if base not in shipped:
        return []
    before, after = (_flat(dataclasses.asdict(one)) for one in (shipped.get(base), definition))
    return [
        f"{key}: {before.get(key)!r} → {after.get(key)!r}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and key not in {"name", "title"}
    ]


def _flat(value: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{above}{key}"
        if isinstance(inner, dict):
            flat |= _flat(cast("dict[str, Any]", inner), f"{name}.")
        else:
            flat[name] = inner
    return flat
