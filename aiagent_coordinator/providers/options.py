"""What a user may want of any CLI, by one name each; a definition says how it reaches its CLI.

Pure. What a CLI cannot do is refused when the configuration is read, never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic import JsonValue, SecretStr

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.shape import Definition, Words
from aiagent_coordinator.providers.substitution import names_in, sole_name, substitute

#: Lists; everything else is one value.
LISTS = frozenset({"tools_allowed", "tools_denied", "own_servers_denied"})
#: Never in an argument, never in a file: a variable of the CLI alone.
SECRETS = frozenset({"api_key"})
#: The options there are.
NAMES = (
    *("project_config", "cli_sandbox", "tools_allowed", "tools_denied", "max_turns", "max_budget"),
    *("effort", "base_url", "api_key", "request_timeout", "max_output_tokens"),
    *("own_servers", "own_servers_denied"),
)
#: What `request_timeout` stands for in words.
TIMEOUTS = ("request_timeout_ms", "request_timeout_seconds")
#: What words of options may name beside everything else.
PLACEHOLDERS = frozenset({*NAMES, *TIMEOUTS, "each", "model_vendor", "model_name"}) - SECRETS
#: In settings, where nothing else stands beside them, these are numbers.
_WHOLE = frozenset({"max_turns", "max_output_tokens", *TIMEOUTS})
#: What every definition takes that says where.
EXTRA_ARGS = "extra_args"

Value: TypeAlias = str | tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """The options of one run: values as words know them, and secrets apart from them."""

    values: Mapping[str, Value] = field(default_factory=dict[str, Value])
    secrets: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr], repr=False)

    def over(self, less: Chosen) -> Chosen:
        """These options, and of the others what is not among them."""
        return Chosen({**less.values, **self.values}, {**less.secrets, **self.secrets})

    def names(self) -> set[str]:
        """What is set."""
        return {*self.values, *self.secrets}


def refusals(definition: Definition, chosen: Chosen) -> Iterator[tuple[str, str]]:
    """What of the options this CLI cannot do: option and reason."""
    can = sorted(supported(definition))
    for name in sorted(chosen.names()):
        if name not in can:
            told = f"it can: {', '.join(can)}" if can else "it has no options"
            yield name, f"{definition.title} cannot be told this; {told}"
            continue
        allowed = definition.options[name].allowed if name in definition.options else ()
        value = chosen.values.get(name, "")
        if allowed and value not in allowed:
            yield name, f"{definition.title} knows {', '.join(allowed)}, not {value!r}"


def conflicts(definition: Definition, chosen: Chosen) -> Iterator[tuple[str, str]]:
    """What of the options has no effect beside another: option and reason."""
    names = chosen.names()
    for name in sorted(names & definition.options.keys()):
        for other in definition.options[name].not_with:
            if other in names:
                yield (
                    name,
                    f"{definition.title} cannot keep it with {other}: it would have no effect",
                )


def supported(definition: Definition) -> frozenset[str]:
    """The options that reach this CLI."""
    named = set(_named(definition))
    spoken = {name for name in (*NAMES, EXTRA_ARGS) if name in named}
    return frozenset({*definition.options, *spoken})


def words_of(definition: Definition, chosen: Chosen) -> Iterator[tuple[str, Words]]:
    """The words that the options in force add, with the option's name, in the order of the file."""
    for name, option in definition.options.items():
        if name in chosen.names():
            yield name, Words(option.args, option.env, option.settings)
        value = chosen.values.get(name) or option.default
        if isinstance(value, str) and value in option.values:
            yield name, option.values[value]


def in_force(definition: Definition, chosen: Chosen) -> dict[str, Value]:
    """Every option that has a value, with those that nobody set; no secret."""
    defaults = {name: one.default for name, one in definition.options.items() if one.default}
    return {**defaults, **chosen.values}


def facts_of(chosen: Chosen, model: str) -> dict[str, Value]:
    """What the placeholders of options stand for."""
    facts: dict[str, Value] = {name: () if name in LISTS else "" for name in PLACEHOLDERS}
    vendor, slash, name = model.partition("/")
    facts |= {"model_vendor": vendor if slash else "", "model_name": name, **chosen.values}
    seconds = chosen.values.get("request_timeout")
    if isinstance(seconds, str):
        facts["request_timeout_ms"] = str(round(float(seconds) * 1000))
        facts["request_timeout_seconds"] = str(max(round(float(seconds)), 1))
    return facts


def repeated(
    texts: Iterable[str], facts: Mapping[str, Value], option: str
) -> list[dict[str, Value]]:
    """The facts for a group, once, or with `{each}` in it once for every item of the option's list."""
    if not any("each" in names_in(text) for text in texts):
        return [dict(facts)]
    items = facts.get(option, ())
    return [{**facts, "each": item} for item in (items if isinstance(items, tuple) else (items,))]


def settings_of(definition: Definition, chosen: Chosen, model: str) -> dict[str, JsonValue]:
    """The settings that the options in force add, one into the other."""
    facts = facts_of(chosen, model)
    whole: dict[str, JsonValue] = {}
    for name, words in words_of(definition, chosen):
        whole = merged(whole, _filled(dict(words.settings), facts, name))
    return whole


def merged(less: Mapping[str, JsonValue], more: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """One table over another: tables inside are put together, everything else is replaced."""
    whole = dict(less)
    for key, value in more.items():
        before = whole.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        whole[key] = merged(before, value) if both else value  # pyright: ignore[reportArgumentType]
    return whole


def _filled(
    settings: Mapping[str, JsonValue], facts: Mapping[str, Value], option: str
) -> dict[str, JsonValue]:
    filled: dict[str, JsonValue] = {}
    for key, value in settings.items():
        for known in repeated((key,), facts, option):
            texts = {one: text for one, text in known.items() if isinstance(text, str)}
            name = substitute(key, texts)
            if not name:
                message = f"{option} needs the model as provider/model, to know whose it is"
                raise ProviderError(message)
            filled[name] = _value(value, known, option)
    return filled


def _value(value: JsonValue, facts: Mapping[str, Value], option: str) -> JsonValue:
    if isinstance(value, dict):
        return _filled(value, facts, option)
    if isinstance(value, list):
        return [_value(inner, facts, option) for inner in value]
    if not isinstance(value, str):
        return value
    name = sole_name(value)
    if name is None:
        texts = {one: text for one, text in facts.items() if isinstance(text, str)}
        return substitute(value, texts)
    found = facts[name]
    if isinstance(found, tuple):
        return list(found)
    return float(found) if name == "max_budget" else int(found) if name in _WHOLE else found


def _named(definition: Definition) -> Iterator[str]:
    launch = definition.launch
    words = [word for group in launch.args for word in group] + list(launch.env.values())
    for word in words:
        yield from names_in(word)
