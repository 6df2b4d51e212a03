"""`provider list|show|test`: the AI CLIs, what they can do, how they stand, and whether one works."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import board, locate
from aiagent_coordinator.cli.later import Later
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded
    from aiagent_coordinator.providers.catalog import Catalog
    from aiagent_coordinator.providers.definition import Definition
    from aiagent_coordinator.providers.probing import Probe

#: What of the capabilities is shown by its name in a list.
_SHOWN = (
    *("resume", "usage", "cost", "turn_limit", "budget_flag", "system_prompt", "http"),
    *("json_stream", "rate_limit_events", "steering", "permission_requests"),
)
_COLUMNS = ("provider", "version", "health", "in_use", "limits", "last_error", "can")
#: Of so many runs the last failure of a provider is looked for.
_RUNS = 200


@click.group(help=text("help.provider"))
@options.common
def provider() -> None:
    """Look at the AI CLIs, and try one."""


@provider.command("list", help=text("help.provider.list"))
@click.option("--all", "everything", is_flag=True, help=text("help.option.all_providers"))
@options.as_json
@options.common
def list_providers(everything: bool, as_json: bool) -> None:
    """List the providers with how they stand."""
    known = look(asks_login=True)
    rows = [row for row in known.rows() if everything or row["enabled"] or row["path"]]
    if as_json:
        output.json_result({"providers": rows})
        return
    output.table(
        [text(f"table.{name}") for name in _COLUMNS],
        [
            (
                *(row["name"], row["version"] or "", _health(row), _in_use(row)),
                *(", ".join(row["limits"]), _last_error(row), ", ".join(row["can"])),
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["standing_text"]:
            output.talk(f"{row['name']}: {row['standing_text']}")


@provider.command(help=text("help.provider.show"))
@click.argument("name")
@options.as_json
@options.common
def show(name: str, as_json: bool) -> None:
    """Show one provider: its definition, where that comes from, and what is in force."""
    from aiagent_coordinator.cli.provider_facts import facts_of

    known = look([name], asks_login=True)
    (row,) = known.rows()
    facts = facts_of(known.catalog, name, known.loaded)
    if as_json:
        output.json_result({**row, **facts})
        return
    output.facts([*_of_row(row), *_of_facts(facts)])


provider.add_command(Later("test", "provider_test", "test", "provider."))


@dataclass(frozen=True)
class Known:
    """What was found out about some providers."""

    loaded: Loaded
    catalog: Catalog
    probes: list[Probe]
    #: The server's answer to `get_status`; None without a server.
    status: dict[str, Any] | None

    def rows(self) -> list[dict[str, Any]]:
        """One row for each."""
        return [self._row(probe) for probe in self.probes]

    def _row(self, probe: Probe) -> dict[str, Any]:
        from aiagent_coordinator.cli.installed import standing_text

        definition = probe.definition
        agents = self.loaded.settings.agents
        mine = {name: one for name, one in agents.items() if one.provider == definition.name}
        return {
            "name": definition.name,
            "title": definition.title,
            "enabled": bool(mine),
            "path": str(probe.path) if probe.path else None,
            "version": probe.version,
            "standing": probe.standing.value,
            "standing_text": standing_text(probe),
            "login": probe.login.value,
            "accounts": self._accounts(probe),
            "agents": sorted(mine),
            "limit": sum(one.max_concurrent for one in mine.values()),
            "in_use": self._in_use(definition.name),
            "limits": self._limits(definition.name),
            "models": list(definition.models)
            or sorted({one.model for one in mine.values() if one.model}),
            "can": [name for name in _SHOWN if getattr(definition.can, name)],
            **self._health(definition, probe, set(mine)),
        }

    def _accounts(self, probe: Probe) -> dict[str, str]:
        """What is known of the login of each account, asked with the variables of its runs."""
        from aiagent_coordinator.providers.environment import of_account
        from aiagent_coordinator.providers.probing import login_of, probe_env

        definition = probe.definition
        entry = self.loaded.settings.ai_providers.get(definition.name)
        if entry is None or probe.path is None:
            return {}
        env = probe_env(os.environ, definition, self.catalog.chosen(definition.name))
        found: dict[str, str] = {}
        for name, account in entry.accounts.items():
            own = {key: value.get_secret_value() for key, value in account.env.items()}
            if account.home is not None:
                own["HOME"] = str(account.home)
            found[name] = login_of(definition, probe.path, of_account(env, own)).value
        return found

    def _in_use(self, name: str) -> int | None:
        live: list[dict[str, Any]] = (self.status or {}).get("live", [])
        return None if self.status is None else sum(one["provider"] == name for one in live)

    def _limits(self, name: str) -> list[str]:
        """What of its accounts and models is parked, each in words."""
        parked: list[dict[str, Any]] = (self.status or {}).get("parked", [])
        return [one["why"] for one in parked if one["lane"].partition("/")[0] == name]

    def _health(self, definition: Definition, probe: Probe, agents: set[str]) -> dict[str, Any]:
        """Whether work can begin there, else why not, since when, and what went wrong last."""
        status = self.status or {}
        failures: dict[str, dict[str, Any]] = status.get("failures", {})
        failed = failures.get(definition.name, {})
        told = {"last_error": failed.get("reason"), "since": failed.get("ended_at")}
        for circuit in status.get("circuits", []):
            if (circuit["scope"], circuit["name"]) == ("provider", definition.name):
                return {"health": "resting", "why": circuit["reason"], **told}
        for one in status.get("unfit", []):
            if one["agent_id"] in agents:
                return {"health": "unfit", "why": one["reason"], **told}
        from aiagent_coordinator.cli.installed import NOT_LOOKED_FOR

        if probe.path is None and definition.name not in NOT_LOOKED_FOR:
            return {"health": "absent", "why": definition.detect.executable, **told}
        if probe.is_too_old:
            return {"health": "too_old", "why": definition.detect.supported, **told}
        if probe.login.value == "needs_login":
            return {"health": "needs_login", "why": definition.auth.login, **told}
        return {"health": "ok", "why": None, **told}


def look(
    names: list[str] | None = None, *, asks_login: bool, agents: set[str] | None = None
) -> Known:
    """Find out about some providers, those of some agents, or all."""
    from aiagent_coordinator.config import load_settings
    from aiagent_coordinator.config.find import find_config
    from aiagent_coordinator.providers.catalog import load_catalog
    from aiagent_coordinator.providers.configured import configured_catalog
    from aiagent_coordinator.providers.probing import Prober

    given = options.current()
    loaded = load_settings(
        find_config(given.config), overrides=given.overrides, known_providers=tuple(load_catalog())
    )
    catalog = configured_catalog(loaded)
    if agents is not None:
        declared = loaded.settings.agents
        names = sorted({declared[name].provider for name in agents if name in declared})
    wanted = [catalog.get(name) for name in (catalog if names is None else names)]
    prober = Prober(memory=loaded.state_dir.root / "versions.json", asks_login=asks_login)
    probes = prober.look((one, catalog.chosen(one.name)) for one in wanted)
    return Known(loaded, catalog, probes, _status() if agents is None else None)


def _status() -> dict[str, Any] | None:
    try:
        with board(locate(options.current())) as client:
            ended = client.call("list_runs", {"live": False, "limit": _RUNS, "newest": True})
            return {**client.call("get_status", {}), "failures": _failures(ended["runs"])}
    except (CoordinatorError, OSError):
        return None  # a list without a server is a list all the same


def _failures(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last failure of each provider, of the newest runs that are over."""
    failed = [one for one in runs if one["outcome"] == "failed"]
    failed.sort(key=lambda one: str(one["ended_at"]))
    return {one["provider"]: one for one in failed}


def _health(row: dict[str, Any]) -> str:
    word = text(f"provider.health.{row['health']}")
    return f"{word}: {row['why']}" if row["why"] else word


def _last_error(row: dict[str, Any]) -> str:
    return f"{row['last_error']} ({row['since']})" if row["last_error"] else ""


def _in_use(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return ""
    return f"{'?' if row['in_use'] is None else row['in_use']}/{row['limit']}"


def _of_row(row: dict[str, Any]) -> list[tuple[str, object]]:
    version = row["version"] or ""
    if row["standing_text"]:
        version = row["standing_text"]
    return [
        ("provider", f"{row['name']} ({row['title']})"),
        ("program", row["path"] or text("provider.health.absent")),
        ("version", version),
        ("login", text(f"provider.login.{row['login']}")),
        *(
            (f"account {name}", text(f"provider.login.{one}"))
            for name, one in row["accounts"].items()
        ),
        ("health", _health(row)),
        ("limits", ", ".join(row["limits"])),
        ("last error", _last_error(row)),
        ("agents", ", ".join(row["agents"])),
        ("models", ", ".join(row["models"])),
        ("can", ", ".join(row["can"])),
    ]


def _of_facts(facts: dict[str, Any]) -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = [
        ("definition", facts["origin"]),
        ("checked with", f"{facts['checked']['version']}, {facts['checked']['versions']}"),
        ("approval", ", ".join(facts["approval"])),
    ]
    lines += [(f"option {one['name']}", _option(one)) for one in facts["options"]]
    lines += [("changed", line) for line in facts["differences"]]
    return lines


def _option(one: dict[str, Any]) -> str:
    value = one["value"]
    said = ", ".join(map(str, value)) if one["is_list"] else str(value or "-")
    parts = [said, f"({one['origin']})" if value else ""]
    parts += [f"[{' | '.join(one['allowed'])}]"] if one["allowed"] else []
    parts += [one["note"]] if one["note"] else []
    return " ".join(part for part in parts if part)
