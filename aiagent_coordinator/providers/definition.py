"""Reading a definition: one TOML file per CLI, checked as a whole before anything is started.

Whatever is wrong is said with file, line, key and reason. Nothing here runs a program.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pydantic
from pydantic import JsonValue, TypeAdapter

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers import shape, substitution
from aiagent_coordinator.providers.events import DIALECTS
from aiagent_coordinator.providers.option_faults import capability_faults, option_faults
from aiagent_coordinator.providers.options import PLACEHOLDERS as OPTION_PLACEHOLDERS
from aiagent_coordinator.providers.shape import (
    AnswersVia,
    Definition,
    McpStyle,
    PromptVia,
    duration_seconds,
)
from aiagent_coordinator.providers.substitution import nearest
from aiagent_coordinator.providers.toml_lines import KeyPath, line_of
from aiagent_coordinator.providers.variables import never_passes
from aiagent_coordinator.runs import REASONS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Definition", "load_definition"]

#: What a definition may be called: also the name of its file.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
#: A repeated group that holds a repetition backtracks without end on hostile output.
_NESTED_REPEAT = re.compile(r"\((?:[^()\\]|\\.)*[*+}](?:[^()\\]|\\.)*\)[*+{]")

_ADAPTER = TypeAdapter(Definition)
_TABLES: dict[str, type[DataclassInstance]] = {
    "checked": shape.Checked,
    "detect": shape.Detect,
    "launch": shape.Launch,
    "approval": shape.ApprovalArgs,
    "live": shape.Live,
    "asked": shape.ApprovalArgs,
    "mcp": shape.Mcp,
    "output": shape.Output,
    "outcome": shape.Outcome,
    "limits": shape.Limits,
    "capabilities": shape.Capabilities,
    "auth": shape.Auth,
    "options": shape.Option,
    "sandbox": shape.SandboxNeeds,
    "skills": shape.SkillPlace,
    "errors": shape.ErrorRule,
    "waits": shape.ErrorRule,
}

_Fault = tuple[KeyPath, str]


def load_definition(source: Path | str, origin: str = "") -> Definition:
    """Read and check one definition.

    Args:
        source: The file, or its text.
        origin: What errors call it; the path by default.

    Raises:
        ProviderError: with file, key, reason and, where it can be found, the line.
    """
    origin = origin or (str(source) if isinstance(source, Path) else "<text>")
    try:
        text = source.read_text("utf-8") if isinstance(source, Path) else source
        data = tomllib.loads(text)
    except OSError as error:
        raise ProviderError(f"{origin}: cannot be read: {error.strerror}", file=origin) from error
    except ValueError as error:  # wrong TOML, or bytes that are no UTF-8
        raise ProviderError(f"{origin}: not TOML: {error}", file=origin) from error
    if data.get("schema") != shape.SCHEMA:
        found = data.get("schema", "nothing")
        raise _error(origin, text, ("schema",), f"must be {shape.SCHEMA}, found {found}")
    try:
        # by way of JSON: strict about types, but a list is a tuple and a date a text
        definition = _ADAPTER.validate_json(json.dumps(data, default=str))
    except pydantic.ValidationError as error:
        path, reason = _first_fault(error)
        raise _error(origin, text, path, reason) from error
    for path, reason in _faults(definition):
        raise _error(origin, text, path, reason)
    return definition


def _error(origin: str, text: str, path: KeyPath, reason: str) -> ProviderError:
    line = line_of(text, path)
    key = ".".join(str(part) for part in path)
    where = f"{origin}:{line}" if line else origin
    return ProviderError(f"{where}: {key}: {reason}", file=origin, key=key, line=line)


def _first_fault(error: pydantic.ValidationError) -> _Fault:
    found = error.errors()
    # a misspelt key is also a missing one: the spelling is what helps
    first = next((one for one in found if one["type"] == "unexpected_keyword_argument"), found[0])
    path = first["loc"]
    match first["type"]:
        case "unexpected_keyword_argument":
            return path, f"unknown key; {nearest(str(path[-1:][0]), _known_keys(path[:-1]))}"
        case "missing" | "missing_argument":
            return path, "is missing"
        case _:
            return path, first["msg"]


def _known_keys(table: KeyPath) -> list[str]:
    owner = _TABLES.get(str(table[0]), Definition) if table else Definition
    return [field.name for field in dataclasses.fields(owner)]


def _faults(definition: Definition) -> Iterator[_Fault]:
    """What the types cannot say, in the order of the file."""
    if not _NAME.match(definition.name):
        yield ("name",), "must be lower-case letters, digits, dots, dashes, underscores"
    yield from _executable_faults(definition.detect)
    yield from _launch_faults(definition)
    yield from _mcp_faults(definition.mcp)
    if definition.output.dialect not in DIALECTS:
        known = nearest(definition.output.dialect, DIALECTS)
        yield ("output", "dialect"), f"unknown dialect {definition.output.dialect!r}; {known}"
    yield from _live_faults(definition)
    yield from _duration_faults(("limits", "silence"), definition.limits.silence)
    yield from _home_faults(("limits", "state_paths"), definition.limits.state_paths)
    yield from _home_faults(("sandbox", "readable"), definition.sandbox.readable)
    yield from _home_faults(("auth", "files"), tuple(definition.auth.files.values()))
    yield from _place_faults(definition)
    yield from option_faults(definition)
    yield from capability_faults(definition)
    for key in ("logged_in", "logged_out"):
        yield from _pattern_faults(("auth", key), str(getattr(definition.auth, key)))
    for code, reason in definition.exit_codes.items():
        if not (code.isdecimal() and int(code) < 256):
            yield ("exit_codes", code), "an exit code is a number from 0 to 255"
        yield from _reason_faults(("exit_codes", code), reason)
    for key, rules in (("errors", definition.errors), ("waits", definition.waits)):
        for index, rule in enumerate(rules):
            yield from _pattern_faults((key, index, "pattern"), rule.pattern)
            yield from _reason_faults((key, index, "reason"), rule.reason)


def _live_faults(definition: Definition) -> Iterator[_Fault]:
    """What contradicts itself about the live mode."""
    live = definition.live
    if definition.mode is shape.Mode.LIVE and live.driver is shape.Driver.NONE:
        yield ("mode",), "live needs [live] with a driver"
    if live.dialect and live.dialect not in DIALECTS:
        known = nearest(live.dialect, DIALECTS)
        yield ("live", "dialect"), f"unknown dialect {live.dialect!r}; {known}"


def _executable_faults(detect: shape.Detect) -> Iterator[_Fault]:
    executable = detect.executable
    is_plain = executable and "\0" not in executable
    if not is_plain or ("/" in executable and not executable.startswith("/")):
        yield ("detect", "executable"), "must be a program's name or an absolute path"
    elif executable != shape.PYTHON_EXECUTABLE and substitution.names_in(executable):
        yield ("detect", "executable"), f"the only placeholder here is {shape.PYTHON_EXECUTABLE}"
    if detect.version_pattern:
        yield from _pattern_faults(("detect", "version_pattern"), detect.version_pattern)


def _words_of(definition: Definition) -> Iterator[tuple[KeyPath, str]]:
    """Every word that may come to stand on a command line, with its key."""
    launch, live = definition.launch, definition.live
    grouped: tuple[tuple[str, object, tuple[str, ...]], ...] = (
        ("launch", launch, ("resume", "own_session_id", "args")),
        ("live", live, ("options", "args", "more")),
    )
    for table, owner, keys in grouped:
        for key in keys:
            groups: shape.Groups = getattr(owner, key)
            yield from (((table, key), word) for group in groups for word in group)
    for key in ("ask", "edits", "bypass"):
        flags: tuple[str, ...] = getattr(definition.approval, key)
        yield from ((("approval", key), word) for word in flags)
        asked: tuple[str, ...] = getattr(definition.asked, key)
        yield from ((("asked", key), word) for word in asked)
        inside: tuple[str, ...] = getattr(definition.sandbox.approval, key)
        yield from ((("sandbox", "approval", key), word) for word in inside)


def _launch_faults(definition: Definition) -> Iterator[_Fault]:
    launch = definition.launch
    words = list(_words_of(definition))
    for path, word in words:
        yield from _word_faults(path, word)
    for name, value in launch.env.items():
        yield from _word_faults(("launch", "env", name), value)
    for key, names in (("env", tuple(launch.env)), ("pass_env", launch.pass_env)):
        for name in names:
            if never_passes(name):
                yield ("launch", key), f"{name} never reaches a CLI"
    for pattern in launch.runs_unasked:
        if pattern.startswith("/") or ".." in pattern.split("/") or not pattern.strip("/*"):
            yield ("launch", "runs_unasked"), f"{pattern!r} must name files inside the project"
    yield from _prompt_faults(
        launch, {name for _, word in words for name in substitution.names_in(word)}
    )


def _prompt_faults(launch: shape.Launch, named: set[str]) -> Iterator[_Fault]:
    """What contradicts itself about the prompt's way and that of answers."""
    via = {PromptVia.ARGUMENT: "prompt", PromptVia.FILE: "prompt_file"}.get(launch.prompt)
    if via and via not in named:
        yield ("launch", "prompt"), f"{launch.prompt.value} needs {{{via}}} among the arguments"
    if launch.answers is AnswersVia.STDIN and launch.prompt is PromptVia.STDIN:
        yield (
            ("launch", "answers"),
            'stdin needs the prompt elsewhere: prompt = "file" or "argument"',
        )
    if "prompt" in named and launch.prompt is not PromptVia.ARGUMENT:
        yield ("launch", "args"), '{prompt} needs prompt = "argument"'


def _word_faults(path: KeyPath, word: str) -> Iterator[_Fault]:
    yield from _name_faults(path, word, substitution.PLACEHOLDERS | OPTION_PLACEHOLDERS)
    lists = substitution.LIST_PLACEHOLDERS.intersection(substitution.names_in(word))
    if lists and substitution.sole_name(word) is None:
        yield path, f"{{{min(lists)}}} is a list and stands alone in its word"
    if lists and path[:2] == ("launch", "env"):
        yield path, f"{{{min(lists)}}} is a list; a variable holds one value"
    placed = lists.intersection(substitution.PLACED)
    if placed and path not in (("launch", "args"), ("live", "args"), ("live", "options")):
        yield path, f"{{{min(placed)}}} belongs into launch.args"


def _name_faults(path: KeyPath, text: str, known: frozenset[str]) -> Iterator[_Fault]:
    for name in substitution.names_in(text):
        if name not in known:
            yield path, f"unknown placeholder {{{name}}}; {nearest(name, known)}"


def _mcp_faults(mcp: shape.Mcp) -> Iterator[_Fault]:
    yield from _duration_faults(("mcp", "tool_timeout"), mcp.tool_timeout)
    yield from _name_faults(("mcp", "tool_name"), mcp.tool_name, substitution.TOOL_PLACEHOLDERS)
    yield from _name_faults(("mcp", "rule"), mcp.rule, frozenset({"server"}))
    for word in mcp.more_args:
        yield from _name_faults(("mcp", "more_args"), word, frozenset({"name", "entry_toml"}))
    for text in _texts(mcp.stdio):
        yield from _name_faults(("mcp", "stdio"), text, substitution.STDIO_PLACEHOLDERS)
    for text in _texts(mcp.http):
        yield from _name_faults(("mcp", "http"), text, substitution.HTTP_PLACEHOLDERS)
    file = PurePosixPath(mcp.file)
    if file.is_absolute() or ".." in file.parts or not file.name:
        yield ("mcp", "file"), "must be a path inside the run's own folder"
    if mcp.style is not McpStyle.NONE and not mcp.stdio:
        yield ("mcp", "stdio"), "is missing: how our server is written into the CLI's configuration"


def _place_faults(definition: Definition) -> Iterator[_Fault]:
    """Files and folders of a run that would lie elsewhere."""
    skills = definition.skills
    for path, text, may_be_top in (
        (("launch", "system_prompt_file"), definition.launch.system_prompt_file, True),
        (("skills", "dir"), skills.dir, False),
        (("skills", "below"), skills.below, True),
    ):
        if not _is_inside(text, may_be_top=may_be_top):
            yield path, "must be a path inside the run's own folder"
    for text in definition.auth.files:
        if not _is_inside(text, may_be_top=False):
            yield ("auth", "files"), "must be paths inside the run's own folder"
    for text in definition.launch.session_files:
        if not _is_inside(text, may_be_top=False):
            yield ("launch", "session_files"), "must be globs inside the run's own folder"


def _is_inside(text: str, *, may_be_top: bool) -> bool:
    path = PurePosixPath(text)
    return not path.is_absolute() and ".." not in path.parts and (may_be_top or bool(path.name))


def _texts(value: JsonValue | Mapping[str, JsonValue]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _duration_faults(path: KeyPath, text: str) -> Iterator[_Fault]:
    try:
        duration_seconds(text)
    except ValueError as error:
        yield path, str(error)


def _home_faults(path: KeyPath, places: tuple[str, ...]) -> Iterator[_Fault]:
    for place in places:
        # the home itself would open everything in it
        if not place.startswith("~/") or not place[2:].strip("/") or ".." in place.split("/"):
            yield path, f"{place!r} must be a path inside the home, like ~/.name"


def _reason_faults(path: KeyPath, reason: str) -> Iterator[_Fault]:
    if reason not in REASONS:
        yield path, f"unknown reason {reason!r}; {nearest(reason, REASONS)}"


def _pattern_faults(path: KeyPath, pattern: str) -> Iterator[_Fault]:
    try:
        re.compile(pattern)
    except re.error as error:
        yield path, f"not a regular expression: {error}"
    if _NESTED_REPEAT.search(pattern):
        yield path, "repeats a group that repeats: hostile output could stall it"
