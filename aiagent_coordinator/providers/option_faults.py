"""What is wrong with the options and the capabilities that a definition states. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from aiagent_coordinator.providers import options, substitution, versions
from aiagent_coordinator.providers.shape import Definition, McpStyle, Words
from aiagent_coordinator.providers.substitution import names_in, nearest
from aiagent_coordinator.providers.toml_lines import KeyPath
from aiagent_coordinator.providers.variables import never_passes

if TYPE_CHECKING:
    from pydantic import JsonValue

_Fault = tuple[KeyPath, str]
_APPROVALS = ("ask", "edits", "bypass")


def option_faults(definition: Definition) -> Iterator[_Fault]:
    """What of `[options]` cannot be."""
    for name, option in definition.options.items():
        here: KeyPath = ("options", name)
        if name not in options.NAMES:
            yield here, f"unknown option {name!r}; {nearest(name, options.NAMES)}"
            continue
        if option.default and option.default not in option.allowed:
            yield (*here, "default"), f"{option.default!r} is none of its values"
        for other in option.not_with:
            if other not in definition.options:
                yield (*here, "not_with"), f"{other!r} is no option of this definition"
        words: dict[KeyPath, Words] = {here: option}
        words |= {(*here, "values", value): each for value, each in option.values.items()}
        for path, each in words.items():
            yield from _words_faults(definition, path, each, name)


def _words_faults(
    definition: Definition, path: KeyPath, words: Words, name: str
) -> Iterator[_Fault]:
    known = substitution.PLACEHOLDERS | options.PLACEHOLDERS
    secret = frozenset({name} & options.SECRETS)
    for group in words.args:
        for word in group:
            yield from _unknown((*path, "args"), word, known - set(substitution.PLACED))
    for variable, text in words.env.items():
        yield from _unknown((*path, "env", variable), text, known | secret)
        if never_passes(variable):
            yield (*path, "env", variable), f"{variable} never reaches a CLI"
    if words.settings and definition.mcp.style is McpStyle.NONE:
        yield (*path, "settings"), "has no place: settings stand beside our server's entry"
    for text in _texts(dict(words.settings)):
        yield from _unknown((*path, "settings"), text, options.PLACEHOLDERS)


def _unknown(path: KeyPath, text: str, known: frozenset[str]) -> Iterator[_Fault]:
    for name in names_in(text):
        if name not in known:
            yield path, f"unknown placeholder {{{name}}}; {nearest(name, known)}"


def _texts(value: JsonValue | Mapping[str, JsonValue]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def capability_faults(definition: Definition) -> Iterator[_Fault]:
    """What `[capabilities]` says and the rest of the definition does not bear out."""
    stated = definition.capabilities
    if stated is None:
        return
    try:
        versions.check_range(stated.versions)
    except ValueError as error:
        yield ("capabilities", "versions"), str(error)
    styles = [style.value for style in McpStyle if style is not McpStyle.NONE]
    for way in stated.mcp:
        if way not in styles:
            yield ("capabilities", "mcp"), f"unknown way {way!r}; {nearest(way, styles)}"
    for mode in stated.approval:
        if mode not in _APPROVALS:
            yield (
                ("capabilities", "approval"),
                f"unknown mode {mode!r}; {nearest(mode, _APPROVALS)}",
            )
    can = options.supported(definition)
    shown = {
        "resume": bool(definition.launch.resume),
        "http": bool(definition.mcp.http),
        "turn_limit": "max_turns" in can,
        "budget_flag": "max_budget" in can,
        "json_stream": definition.output.dialect != "plain",
    }
    for name, there in shown.items():
        if getattr(stated, name) and not there:
            yield ("capabilities", name), "is stated, and nothing in this file does it"
