"""What a configuration file says of the AI CLIs: which program, and what is wanted of it.

Which of the options a CLI can be told, its definition says; the rest is refused, see
`providers.configured`.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import PlainValidator, ValidationInfo

from aiagent_coordinator.config import values
from aiagent_coordinator.config.fields import (
    Expanded,
    Model,
    PositiveDuration,
    Program,
    Secret,
    around,
    setting,
)
from aiagent_coordinator.config.mcp import OWN_SERVERS_MEANING, OwnServer, OwnServers
from aiagent_coordinator.config.quota import AccountSettings


def _url(value: object, info: ValidationInfo) -> str:
    text = values.parse_text(value, around(info).environment)
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or set(text) & set(" \"'\\{}\n"):
        raise values.BadValueError(f"expected a URL like https://models.example/v1, got {text!r}")
    if parts.username or parts.password:
        raise values.BadValueError("holds a name or password; a key belongs into api_key")
    return text


Url = Annotated[str, PlainValidator(_url)]


class CliOptions(Model):
    """What may be wanted of a CLI, for all agents of a provider or for one agent."""

    max_turns: int | None = setting(
        None, "Turns of its model in one run; none: no limit.", ge=1, le=100000
    )
    max_budget: float | None = setting(
        None,
        "US dollars that one run may cost, counted and kept by the program itself; none: no limit.",
        gt=0,
        le=1_000_000,
    )
    effort: Expanded | None = setting(
        None, "How hard its model thinks, in the program's own words; its default without."
    )
    tools_allowed: tuple[Expanded, ...] = setting(
        (),
        "Tools, or rules about them in the program's own words, that it may use unasked in addition "
        "to what `approval` allows. Our own always are.",
    )
    tools_denied: tuple[Expanded, ...] = setting(
        (), "Tools, or rules about them, that it may not use at all."
    )
    max_output_tokens: int | None = setting(
        None,
        "Tokens of one answer of its model; the program's default without.",
        ge=1,
        le=10_000_000,
    )
    request_timeout: PositiveDuration | None = setting(
        None, "How long one request to its model may take; the program's default without."
    )
    project_config: bool | None = setting(
        None,
        "Whether it reads what is checked into a project as its configuration: settings, hooks, MCP "
        "servers. They would run without anybody having been asked, so it does not by default.",
    )
    cli_sandbox: Expanded | None = setting(
        None,
        "The program's own sandbox, in its own words: `on`, `off`, or the name of a mode. See `sandbox` "
        "for one of ours around it.",
    )
    own_servers: OwnServers | None = setting(None, OWN_SERVERS_MEANING)
    own_servers_denied: tuple[OwnServer, ...] = setting(
        (), "MCP servers of its own settings that it does not have in a run, by name."
    )
    extra_args: tuple[Expanded, ...] = setting(
        (),
        "Arguments added after the definition's own; those of a provider come before those of an agent.",
    )

    def options(self) -> dict[str, str | tuple[str, ...]]:
        """What is set, as definitions know it, but for keys and `extra_args`."""
        told: dict[str, str | tuple[str, ...]] = {}
        for name in CliOptions.model_fields:
            value: object = getattr(self, name)
            if name == "extra_args" or value is None or value == ():
                continue
            if isinstance(value, bool):
                told[name] = "on" if value else "off"
            elif isinstance(value, tuple):
                told[name] = value
            else:
                told[name] = f"{value:g}" if isinstance(value, float) else str(value)
        return told


class ProviderSettings(CliOptions):
    """How a command line program is driven, where no shipped definition says it as you want it."""

    cli_command: Program | None = setting(
        None,
        "The program: a name on PATH, or a path. `${VAR}` and `~` are expanded.",
    )
    cli_args: tuple[Expanded, ...] = setting(
        (), "Arguments added to the definition's own. `${VAR}` is expanded."
    )
    kick_command: Expanded | None = setting(
        None,
        "The whole command as one line, split into words as a shell would; no shell runs it. "
        "Stands in place of `cli_command` and `cli_args`. `${VAR}` is expanded.",
    )
    models: tuple[Expanded, ...] = setting(
        (),
        "The models it can be started with here; an agent that asks for another waits. None: any.",
    )
    mode: Literal["one-shot", "live"] | None = setting(
        None,
        "Whether its agents can be told more while they work (`live`), where the program can; without, as "
        "its definition says.",
    )
    like: str | None = setting(
        None,
        "The definition it behaves like; `command` gives the prompt on stdin and adds no flags.",
        min_length=1,
    )
    base_url: Url | None = setting(
        None,
        "Where its model is served, in place of the vendor's own address: a gateway, or a server of "
        "yours. `provider show` says which protocol it has to speak. `${VAR}` is expanded.",
    )
    api_key: Secret | None = setting(
        None,
        "The key for it, in place of a login or of variables; it reaches the program as a variable, "
        "never as an argument, and no check. `${VAR}` is expanded.",
    )

    accounts: dict[str, AccountSettings] = setting(
        {}, "Its accounts, by name; none: the one that its program is logged in with."
    )
    accounts_order: tuple[str, ...] = setting(
        (), "Which account is used first; as they stand in the file without."
    )
    switch_accounts: Literal["never", "on_limit"] = setting(
        "never",
        "Whether work moves to the next account while one is at its limit. Some vendors forbid it: "
        "read their terms first.",
    )

    def options(self) -> dict[str, str | tuple[str, ...]]:
        """What is set, as definitions know it, but for keys and `extra_args`."""
        told = super().options()
        return told if self.base_url is None else {**told, "base_url": self.base_url}
