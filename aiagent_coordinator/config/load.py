"""From file, environment and flags to `Settings`: precedence, origins, and mistakes told together."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic

from aiagent_coordinator import paths
from aiagent_coordinator.config import hierarchy, http, mcp, people, quota
from aiagent_coordinator.config.models import Settings
from aiagent_coordinator.config.runner import Runner, is_runner_shaped, translate
from aiagent_coordinator.config.source import (
    KeyPath,
    Problem,
    Source,
    dotted,
    parse_source,
    read_source,
    refuse,
    shown,
    walk,
)
from aiagent_coordinator.config.values import Surroundings, describe, quoting
from aiagent_coordinator.config.words import Value, plain
from aiagent_coordinator.ids import CHOSEN_ID

#: `AIAGENT_COORDINATOR_MAX_CONCURRENT` sets `max_concurrent`, and so on.
ENVIRONMENT_PREFIX = "AIAGENT_COORDINATOR_"
#: Settings that hold one value: what environment and flags may set.
SCALARS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if not isinstance(field.default, pydantic.BaseModel)
    and name
    not in {
        "agents",
        "people",
        "projects",
        "ai_providers",
        "mcp_servers",
        "prices",
        "sandbox_read",
        "sandbox_write",
    }
)


#: Among what is given as flags: which shape the file has.
FORMAT = "format"


@dataclass(frozen=True)
class Loaded:
    """Settings, the file they came from, and for each key that was set where it was set."""

    settings: Settings
    file: Path | None
    #: Dotted key → `FILE:LINE`, the name of a variable, or `flag`; what is absent is a default.
    origins: Mapping[str, str]
    #: What a file of aiagent-runner says in addition; None for a file of ours.
    runner: Runner | None = None

    @property
    def state_dir(self) -> paths.StateDir:
        """The state directory in force."""
        return self.settings.resolved_state_dir(self.file)

    @property
    def socket(self) -> Path:
        """The socket in force; with a server over HTTP, the one where its agents reach it through us.

        Raises:
            ConfigError: no socket can be bound at such a long path.
        """
        found = self.settings.resolved_socket(self.file)
        if self.runner is None or self.runner.url is None:
            return found
        # not the name where commands look for a server of ours
        return paths.check_socket_path(found.with_suffix(".http"))

    @property
    def pointer_files(self) -> tuple[Path, ...]:
        """The two small files that tell quick commands where the server is."""
        return tuple(paths.pointer_files(self.file, self.settings.state_dir))


def load_settings(
    file: Path | None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    known_providers: Collection[str] | None = None,
    content: str | None = None,
) -> Loaded:
    """Read the settings: flag over environment over file over default.

    Args:
        file: The file; None: defaults, environment and flags alone.
        environment: The process's own when None.
        overrides: Top-level settings given as flags, as text; `format` says which shape the file
            has, `runner` or `native`, where it is not to be guessed.
        known_providers: Names of definitions; when given, other names are mistakes.
        content: What the file is to say, instead of what it says.

    Raises:
        ConfigError: it cannot be used; `details["problems"]` lists every line.
    """
    environment = os.environ if environment is None else environment
    source = _source(file, content)
    origins = {dotted(key): f"{source.file}:{source.line_of(key)}" for key in walk(source.data)}
    origins.pop("", None)
    runner: Runner | None = None
    told = dict(overrides or {})
    shape = told.pop(FORMAT, None)
    if shape == "runner" or (shape is None and is_runner_shaped(source.data)):
        source.data, runner, problems = translate(source, environment)
        if problems:
            raise refuse(source.file or "settings", problems)
    given = _given(environment, told)
    for key, (name, value) in given.items():
        source.data[key] = value
        source.lines.pop((key,), None)
        origins[key] = name
    folder = file.absolute().parent if file is not None else Path.cwd()
    try:
        settings = Settings.model_validate_json(
            json.dumps(source.data), context=Surroundings(environment, folder)
        )
    except pydantic.ValidationError as error:
        problems = [
            _problem(
                source, given, _Refusal(item["type"], item["loc"], item["msg"], item.get("ctx", {}))
            )
            for item in error.errors(include_url=False)
        ]
        raise refuse(source.file or "settings", problems) from None
    problems = [
        Problem(source.line_of(key), key, reason)
        for key, reason in _contradictions(settings, known_providers)
    ]
    if problems:
        raise refuse(source.file or "settings", problems)
    return Loaded(settings, file, origins, runner)


def _source(file: Path | None, content: str | None) -> Source:
    if file is None:
        return Source("")
    return read_source(file) if content is None else parse_source(content, shown(file))


def _given(
    environment: Mapping[str, str], overrides: Mapping[str, str]
) -> dict[str, tuple[str, Value]]:
    """What environment and flags set: key → (where, value)."""
    given: dict[str, tuple[str, Value]] = {}
    for key in SCALARS:
        variable = ENVIRONMENT_PREFIX + key.upper()
        if environment.get(variable):
            given[key] = (variable, _typed(key, environment[variable]))
    for key, text in overrides.items():
        given[key] = ("flag", _typed(key, text))
    return given


def _typed(key: str, text: str) -> Value:
    """Numbers become numbers where the setting is one; everything else reads its own text."""
    if key in {"state_dir", "socket"} and not text.startswith(("~", "$")):
        # typed in a shell: relative to where it was typed, not to the file
        return str(Path(text).absolute())
    field = Settings.model_fields.get(key)
    kind: object = field.annotation if field is not None else None
    return plain(text) if kind is int or kind is bool else text


@dataclass(frozen=True)
class _Refusal:
    """One thing that pydantic does not accept, in its words."""

    kind: str
    key: KeyPath
    message: str
    context: Mapping[str, Any]


def _problem(source: Source, given: Mapping[str, tuple[str, Value]], refusal: _Refusal) -> Problem:
    key = refusal.key
    reason = _reason(source, refusal)
    if key and key[0] in given:
        reason = f"{reason} (set by {given[str(key[0])][0]})"
    return Problem(source.line_of(key), key, reason)


def _reason(source: Source, refusal: _Refusal) -> str:
    key, context = refusal.key, refusal.context
    value = _value_at(source.data, key)
    match refusal.kind:
        case "extra_forbidden":
            return f"unknown setting{suggestion(str(key[-1]), _known_keys(key[:-1]))}"
        case "missing":
            return "is required"
        case "value_error":
            return str(context["error"])
        case "greater_than_equal":
            return f"must be at least {context['ge']}, got {value}"
        case "greater_than":
            return f"must be more than {context['gt']}, got {value}"
        case "less_than_equal":
            return f"must be at most {context['le']}, got {value}"
        case "literal_error":
            return f"expected {context['expected']}, got {describe(value)}"
        case kind:
            wanted = _WANTED.get(kind)
            if wanted is None:
                return refusal.message
            hint = quoting(value) if kind == "string_type" else ""
            return f"expected {wanted}, got {describe(value)}{hint}"


_WANTED = {
    "string_type": "text",
    "string_too_short": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of `key: value` lines",
    "model_type": "a mapping of `key: value` lines",
    "model_attributes_type": "a mapping of `key: value` lines",
    "too_long": "a shorter list",
}


def _value_at(data: Value, key: KeyPath) -> Value:
    for part in key:
        if isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _known_keys(around: KeyPath) -> Iterable[str]:
    """Names of the settings inside the model that a key path leads to."""
    model: type[pydantic.BaseModel] = Settings
    for part in around:
        if isinstance(part, str) and part in model.model_fields:
            inner = model_in(model.model_fields[part].annotation)
            model = inner or model
    return model.model_fields


def model_in(annotation: object) -> type[pydantic.BaseModel] | None:
    """The model that a field holds, also inside a list or mapping; None when it holds values."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part))), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _contradictions(
    settings: Settings, known_providers: Collection[str] | None
) -> list[tuple[KeyPath, str]]:
    found: list[tuple[KeyPath, str]] = []
    for section, names in (("agents", settings.agents), ("ai_providers", settings.ai_providers)):
        found += [((section, name), _BAD_ID) for name in names if not CHOSEN_ID.match(name)]
    for agent_id in settings.unsandboxed_bypass():
        found.append((("agents", agent_id, "approval"), _UNSANDBOXED))
    has_token = settings.coordinator_token is not None
    for key, reason in http.contradictions(settings.http, has_token=has_token):
        found.append((("http", *key.split(".")), reason))
    found += hierarchy.contradictions(settings.agents, settings.people)
    ids = [one.id for one in settings.projects]
    found += people.contradictions(settings.people, settings.agents, ids)
    found += quota.contradictions(settings.ai_providers, settings.agents, known_providers)
    found += mcp.contradictions(_server_levels(settings))
    found += _project_contradictions(settings)
    found += _provider_contradictions(settings, known_providers)
    return found


def _server_levels(
    settings: Settings,
) -> Iterator[tuple[KeyPath, Mapping[str, mcp.McpServerSettings]]]:
    yield (), settings.mcp_servers
    for index, project in enumerate(settings.projects):
        yield ("projects", index), project.mcp_servers
    for name, agent in settings.agents.items():
        yield ("agents", name), agent.mcp_servers


_UNSANDBOXED = (
    "bypass lets its program run anything as you, outside any sandbox; "
    "set sandbox, or i_understand_unsandboxed: true if you accept that"
)
_BAD_ID = (
    "is no id: lower-case letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 63"
)


def _project_contradictions(settings: Settings) -> list[tuple[KeyPath, str]]:
    found: list[tuple[KeyPath, str]] = []
    seen: set[str] = set()
    places: dict[str, int] = {}
    for index, project in enumerate(settings.projects):
        here: KeyPath = ("projects", index)
        if not CHOSEN_ID.match(project.id):
            found.append(((*here, "id"), f"{describe(project.id)} {_BAD_ID}"))
        if project.id in seen:
            found.append(((*here, "id"), f"{project.id} is the id of two projects"))
        seen.add(project.id)
        for number, agent in enumerate(project.agents):
            if agent not in settings.agents:
                reason = f"there is no agent {agent!r}{suggestion(agent, settings.agents)}"
                found.append(((*here, "agents", number), reason))
        if project.workspace == "scratch":
            if project.path is not None:
                found.append(
                    ((*here, "path"), "has no meaning with workspace: scratch; remove one")
                )
            continue
        if project.path is None:
            found.append(((*here, "path"), "is required"))
            continue
        first = places.setdefault(os.path.realpath(project.path), index)
        other = settings.projects[first]
        if first != index and not (project.shared_path and other.shared_path):
            reason = f"is also the path of project {other.id}; set shared_path: true on both if you mean it"
            found.append(((*here, "path"), reason))
    return found


def _provider_contradictions(
    settings: Settings, known_providers: Collection[str] | None
) -> list[tuple[KeyPath, str]]:
    if known_providers is None:
        return []
    found: list[tuple[KeyPath, str]] = []
    for name, provider in settings.ai_providers.items():
        if provider.like is not None and provider.like not in known_providers:
            reason = f"there is no provider {provider.like!r}{suggestion(provider.like, known_providers)}"
            found.append((("ai_providers", name, "like"), reason))
    known = {*known_providers, *settings.ai_providers}
    for agent_id, agent in settings.agents.items():
        if agent.provider not in known:
            reason = f"there is no provider {agent.provider!r}{suggestion(agent.provider, known)}"
            found.append((("agents", agent_id, "provider"), reason))
    return found
