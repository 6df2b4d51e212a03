"""From a definition and the facts of a run to the command line. No provider has an `if` of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiagent_coordinator.errors import ProviderError, SpawnError
from aiagent_coordinator.providers import mcp_config, options
from aiagent_coordinator.providers.detect import resolve
from aiagent_coordinator.providers.modes import in_mode
from aiagent_coordinator.providers.shape import (
    AnswersVia,
    ApprovalArgs,
    Definition,
    McpStyle,
    PromptVia,
)
from aiagent_coordinator.providers.substitution import PLACED, names_in, sole_name, substitute
from aiagent_coordinator.providers.values import SERVER_NAME, LaunchValues
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.tasks import Approval

__all__ = ["LaunchValues", "Rendered", "render", "render_env", "render_words", "secret_env"]

#: One argument of a Linux process holds 131072 bytes with its final NUL.
MAX_ARGUMENT_BYTES = 131_071
#: What stands for the prompt where a command line is shown.
PROMPT_SHOWN = "<prompt>"
# Single words that come from settings, servers and earlier runs. One that begins with a dash would be
# read as a flag, with or without the flag it belongs to in front.
_NEVER_FLAGS = ("model", "provider_session_id", "max_turns", "setting_sources")

#: Our tool that says whether something may be done.
PERMISSION_TOOL = "permission_prompt"
#: Where the drivers are.
_DRIVERS = "aiagent_coordinator.drivers"

_Value = str | tuple[str, ...]


@dataclass(frozen=True)
class Rendered:
    """One command, ready to start.

    Attributes:
        argv: The words; the first is an absolute path.
        env: The definition's own variables; `environment.child_env` has them and all others.
        files: What to write under the run's `files/` first, by relative path.
        links: Files of the user's that links below it lead to.
        argv_masked: The words as they may be shown and stored.
        stdin: What goes to standard input: the prompt, answers of people, what they say, or nothing.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    files: dict[str, bytes]
    argv_masked: tuple[str, ...]
    stdin: Literal["prompt", "null", "answers", "words"]
    links: Mapping[str, Path] = field(default_factory=dict[str, Path])


def render(
    definition: Definition,
    values: LaunchValues,
    environ: Mapping[str, str],
    *,
    masker: Masker | None = None,
) -> Rendered:
    """Find the executable and put the run's values into the definition's words.

    Args:
        definition: Which CLI.
        values: The run.
        environ: What the coordinator runs with; its `PATH` says where the executable is.
        masker: Hides what must not be shown in `argv_masked`.

    Raises:
        SpawnError: the program is not installed.
        ProviderError: a value cannot be a word of a command line; the message names which.
    """
    executable = resolve(definition, environ.get("PATH"), values.workspace, environ.get("HOME"))
    if executable is None:
        raise SpawnError(
            f"{definition.name}: the program {definition.detect.executable!r} was not found",
            hint=f"install it, or set ai_providers.{definition.name}.cli_command",
            provider=definition.name,
            executable=definition.detect.executable,
        )
    masker = masker or Masker()
    definition = in_mode(definition, is_live=values.is_live)
    program = (*_driver_words(definition, values), str(executable))
    argv = (*program, *render_words(definition, values))
    for word in argv:
        _check_word(definition.name, word)
    prompt = PROMPT_SHOWN if values.prompt else ""
    shown = render_words(definition, dataclasses.replace(values, prompt=prompt))
    return Rendered(
        argv=argv,
        env=render_env(definition, values),
        files=mcp_config.config_files(definition, values),
        argv_masked=tuple(masker.mask_text(word) for word in (*program, *shown)),
        stdin="words" if values.is_live else _stdin(definition),
        links=values.login_files,
    )


def _driver_words(definition: Definition, values: LaunchValues) -> tuple[str, ...]:
    """The program of ours that drives a CLI in its live mode, up to the CLI itself."""
    if not values.is_live:
        return ()
    facts = _placed_facts(definition, values)
    options = (word for group in definition.live.options for word in _group(group, facts))
    # -I: neither the workspace nor PYTHONPATH is on its path
    program = (values.python, "-I", "-m", f"{_DRIVERS}.{definition.live.driver.value}")
    return (*program, "--prompt", str(values.prompt_file), *options, "--")


def _stdin(definition: Definition) -> Literal["prompt", "null", "answers"]:
    if definition.launch.answers is AnswersVia.STDIN:
        return "answers"
    return "prompt" if definition.launch.prompt is PromptVia.STDIN else "null"


def render_words(definition: Definition, values: LaunchValues) -> tuple[str, ...]:
    """The words after the executable. Pure."""
    facts = _placed_facts(definition, values)
    launch = definition.launch
    # The definition's own words come last: some CLIs want a word for "read stdin" at the end.
    told = definition.live.options if values.is_live else ()
    said = {name for group in (*launch.args, *told) for word in group for name in names_in(word)}
    groups = (*((f"{{{name}}}",) for name in PLACED if name not in said), *launch.args)
    return launch.command + tuple(word for group in groups for word in _group(group, facts))


def _placed_facts(definition: Definition, values: LaunchValues) -> dict[str, _Value]:
    """What stands for a name among the words of a definition, also where its own words are to be."""
    facts = _facts(definition, values)
    launch = definition.launch
    session = launch.resume if values.provider_session_id else launch.own_session_id
    facts["session_args"] = tuple(word for group in session for word in _group(group, facts))
    facts["approval_args"] = _group(_approval_words(definition, values), facts)
    facts["option_args"] = tuple(_option_words(definition, values, facts))
    return facts


def _approval_words(definition: Definition, values: LaunchValues) -> tuple[str, ...]:
    mode = Approval(values.approval)

    def of(words: ApprovalArgs) -> tuple[str, ...]:
        flags = {
            Approval.ASK: words.ask,
            Approval.EDITS: words.edits,
            Approval.BYPASS: words.bypass,
        }
        return flags[mode]

    if values.asks_leave and of(definition.asked):
        return of(definition.asked)
    return (of(definition.sandbox.approval) if values.shut_in else ()) or of(definition.approval)


def _option_words(
    definition: Definition, values: LaunchValues, facts: Mapping[str, _Value]
) -> Iterator[str]:
    for name, words in options.words_of(definition, values.options):
        for group in words.args:
            for known in options.repeated(group, facts, name):
                yield from _group(group, known)


def render_env(definition: Definition, values: LaunchValues) -> dict[str, str]:
    """The variables that the definition sets itself, without those that hold a secret."""
    facts = _facts(definition, values)
    env = dict(definition.launch.env)
    for name, words in options.words_of(definition, values.options):
        if name not in options.SECRETS:
            env |= words.env
    filled = {name: _group((text,), facts) for name, text in env.items()}
    return {name: words[0] for name, words in filled.items() if words}


def secret_env(definition: Definition, values: LaunchValues) -> dict[str, str]:
    """The variables that hold a secret of the configuration; for the CLI alone."""
    secrets = {name: one.get_secret_value() for name, one in values.options.secrets.items()}
    return {
        variable: substitute(text, secrets)
        for name, words in options.words_of(definition, values.options)
        if name in secrets
        for variable, text in words.env.items()
    }


def _group(group: tuple[str, ...], facts: Mapping[str, _Value]) -> tuple[str, ...]:
    if any(not facts[name] for word in group for name in names_in(word)):
        return ()
    texts = {name: value for name, value in facts.items() if isinstance(value, str)}
    words: list[str] = []
    for word in group:
        value = facts.get(sole_name(word) or "")
        words += value if isinstance(value, tuple) else (substitute(word, texts),)
    return tuple(words)


def _facts(definition: Definition, values: LaunchValues) -> dict[str, _Value]:
    single = {name: str(getattr(values, name)) for name in _NEVER_FLAGS}
    for name, text in {**values.options.values, **single}.items():
        if any(one.startswith("-") for one in ((text,) if isinstance(text, str) else text)):
            raise ProviderError(f"{definition.name}: {name} must not begin with a dash")
    mcp = definition.mcp
    has_file = mcp.style is McpStyle.FILE
    known: dict[str, _Value] = dict(options.facts_of(values.options, values.model))
    known["max_turns"] = known["max_turns"] or values.max_turns
    return known | {
        "mcp_config_file": str(values.files_dir / mcp.file) if has_file else "",
        "mcp_config_inline": mcp_config.config_text(definition, values),
        "mcp_servers_inline": mcp_config.servers_text(definition, values),
        "mcp_entry_toml": mcp_config.entry_toml(definition, values),
        "mcp_rules": mcp_config.rules(mcp, values),
        "mcp_more_args": mcp_config.more_args(mcp, values),
        "mcp_tools": mcp_config.tool_names(mcp, values.tools),
        "model": values.model,
        "approval": str(values.approval),
        "permission_tool": mcp_config.tool_names(mcp, (PERMISSION_TOOL,))[0]
        if values.asks_leave
        else "",
        "extra_args": values.extra_args,
        "prompt": values.prompt,
        "prompt_file": str(values.prompt_file),
        "provider_session_id": values.provider_session_id,
        "new_uuid": values.new_uuid,
        "workspace": str(values.workspace),
        "run_dir": str(values.run_dir),
        "files_dir": str(values.files_dir),
        "bridge_command": values.python,
        "bridge_args": ("-I", "-S", str(values.run_dir / "bridge.py")),
        "socket": values.socket,
        "task_id": values.task_id,
        "temp_dir": values.temp_dir,
        "python": values.python,
        "setting_sources": values.setting_sources,
        "skills_dir": values.skills_dir,
        "system_prompt_file": values.system_prompt_file,
        "server": SERVER_NAME,
    }


def _check_word(provider: str, word: str) -> None:
    if "\0" in word:
        raise ProviderError(f"{provider}: a word of the command line holds a NUL")
    size = len(word.encode("utf-8", "surrogatepass"))
    if size > MAX_ARGUMENT_BYTES:
        raise ProviderError(
            f"{provider}: a word of the command line has {size} bytes, at most {MAX_ARGUMENT_BYTES} work",
            hint='give the prompt by prompt = "stdin" or "file"',
        )
