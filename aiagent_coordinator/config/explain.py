"""Every setting in force, with where it was set; secrets never leave this module in the clear."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pydantic

from aiagent_coordinator.config.load import Loaded, model_in, suggestion
from aiagent_coordinator.config.models import Settings
from aiagent_coordinator.config.source import KeyPath, dotted
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.redaction import MASK, Masker

#: Where a value comes from that nobody set.
DEFAULT = "default"
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}", re.ASCII)
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One setting in force: its key, its value as JSON knows it (secrets masked), and where it was set."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True)
class About:
    """What a setting means, whatever its value."""

    meaning: str
    reload: str
    default: Any
    is_required: bool


def entries(loaded: Loaded) -> list[Entry]:
    """List every setting in force.

    Raises:
        ConfigError: the socket in force has too long a path.
    """
    shown = Masker(_secrets(loaded))
    in_force = {
        "state_dir": str(loaded.state_dir.root),
        "socket": str(loaded.socket),
        "log_directory": str(loaded.state_dir.logs),
    }
    found: list[Entry] = []
    for key, value in leaves(loaded.settings):
        name = dotted(key)
        known = in_force.get(name) if value is None else _plain(value, shown)
        found.append(Entry(name, known, _origin(loaded.origins, name)))
    return found


def about(key: KeyPath) -> About:
    """Say what a setting means.

    Raises:
        NotFoundError: there is no such setting.
    """
    model: type[pydantic.BaseModel] | None = Settings
    field: pydantic.fields.FieldInfo | None = None
    is_named = False  # the next part is an id that the user chose, or an index
    for part in key:
        if is_named:
            is_named = False
            continue
        if model is None or part not in model.model_fields:
            known = model.model_fields if model else ()
            raise NotFoundError(f"there is no setting {dotted(key)}{suggestion(str(part), known)}")
        field = model.model_fields[str(part)]
        inner = model_in(field.annotation)
        is_named = inner is not None and field.annotation is not inner
        model = inner
    if field is None:
        raise NotFoundError("no setting is named")
    extra = cast("dict[str, Any]", field.json_schema_extra)
    default = None if field.is_required() else field.get_default()
    return About(
        field.description or "",
        str(extra["reload"]),
        None if isinstance(default, (pydantic.BaseModel, dict)) else _plain(default, Masker()),
        field.is_required(),
    )


def leaves(value: object, key: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Yield every single value of settings with its key."""
    if isinstance(value, pydantic.BaseModel):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*key, name))
    elif isinstance(value, dict):
        for name, item in cast("dict[str, object]", value).items():
            yield from leaves(item, (*key, name))
    elif isinstance(value, tuple) and value and isinstance(value[0], pydantic.BaseModel):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from leaves(item, (*key, index))
    else:
        yield key, value


def _plain(value: object, masker: Masker) -> Any:  # noqa: ANN401 - any JSON value
    match value:
        case None | bool() | int() | float():
            return value
        case pydantic.SecretStr():
            return MASK
        case tuple():
            return [_plain(item, masker) for item in cast("tuple[object, ...]", value)]
        case _:
            return masker.mask_text(str(value))


def _origin(origins: Mapping[str, str], name: str) -> str:
    if name in origins:
        return origins[name]
    inside = (where for key, where in origins.items() if key.startswith(f"{name}["))
    return next(inside, DEFAULT)


def _secrets(loaded: Loaded) -> Iterable[str]:
    """What must not be shown where it was put into another value, as by `${API_KEY}`."""
    for _, value in leaves(loaded.settings):
        if isinstance(value, pydantic.SecretStr):
            yield value.get_secret_value()
    for name in _VARIABLE.findall(_text(loaded.file)):
        if _SECRET_NAME.search(name) and name in os.environ:
            yield os.environ[name]


def _text(file: Path | None) -> str:
    try:
        return "" if file is None or not file.is_file() else file.read_text("utf-8")
    except (OSError, ValueError):
        return ""
