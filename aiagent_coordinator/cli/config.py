"""`config show|validate|set|explain`: what is set, where, and changing one line of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.config.find import find_config
from aiagent_coordinator.errors import ConfigError, ValidationError
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded
    from aiagent_coordinator.config.source import KeyPath


@click.group(help=text("help.config"))
@options.common
def config() -> None:
    """Look at the settings and change them."""


@config.command(help=text("help.config.show"))
@options.as_json
@options.file_format
@options.common
def show(as_json: bool) -> None:
    """Show every setting in force."""
    from aiagent_coordinator.config.explain import entries

    loaded = _load()
    found = entries(loaded)
    if as_json:
        lines = [{"key": one.key, "value": one.value, "origin": one.origin} for one in found]
        output.json_result({"file": str(loaded.file) if loaded.file else None, "settings": lines})
        return
    output.table(
        [text(f"table.{name}") for name in ("key", "value", "origin")],
        [(one.key, _written(one.value), one.origin) for one in found],
    )


@config.command(help=text("help.config.validate"))
@options.as_json
@options.file_format
@options.common
def validate(as_json: bool) -> None:
    """Read the file as a start would, and start nothing."""
    from aiagent_coordinator.serving import terms_in

    loaded = _load(_file())
    if loaded.runner is None:
        terms_in(loaded)
    if as_json:
        output.json_result({"file": str(loaded.file), "valid": True})
    else:
        output.result(text("config.valid", file=loaded.file))


@config.command("set", help=text("help.config.set"))
@click.argument("key")
@click.argument("value")
@options.file_format
@options.common
def set_value(key: str, value: str) -> None:
    """Change one value in the file."""
    from aiagent_coordinator.config import edit
    from aiagent_coordinator.config.source import dotted, parse_source, shown

    file = _file()
    content = _content(file)
    path = edit.find_key(parse_source(content, shown(file)).data, key)
    changed, loaded = _accepted(file, content, path, value)
    edit.save(file, changed)
    name = dotted(path)
    output.result(text("config.set", name=name, file=file))
    origin = loaded.origins.get(name, "")
    if origin and not origin.startswith(shown(file)):
        output.talk(text("config.overridden", name=name, origin=origin))


@config.command(help=text("help.config.explain"))
@click.argument("key")
@click.option("--agent", metavar="ID", help=text("help.option.only_agent"))
@click.option("--project", metavar="ID", help=text("help.option.only_project"))
@click.option("--task", metavar="ID", help=text("help.option.of_task"))
@options.as_json
@options.file_format
@options.common
def explain(
    key: str, agent: str | None, project: str | None, task: str | None, as_json: bool
) -> None:
    """Say what a setting means, what it is, and who set it."""
    from aiagent_coordinator.cli import config_servers
    from aiagent_coordinator.config.edit import find_key
    from aiagent_coordinator.config.explain import about, entries
    from aiagent_coordinator.config.source import dotted, read_source

    loaded = _load()
    data = read_source(loaded.file).data if loaded.file else {}
    path = find_key(data, key)
    known = about(path)
    name = dotted(path)
    found = [one for one in entries(loaded) if _is_inside(one.key, name)]
    facts: dict[str, Any] = {
        "key": name,
        "meaning": known.meaning,
        "changes_count": known.reload,
        "default": known.default,
        "required": known.is_required,
        "values": [{"key": one.key, "value": one.value, "origin": one.origin} for one in found],
    }
    if config_servers.is_about(path):
        facts["servers"] = _servers(loaded, path, agent, project, task)
    elif agent or project or task:
        raise ValidationError(text("config.only_servers"))
    if as_json:
        output.json_result(facts)
        return
    default = text("config.required") if known.is_required else _written(known.default)
    output.facts(
        [
            ("key", name),
            ("meaning", known.meaning),
            ("default", default),
            ("changes count", known.reload),
            *((one.key, f"{_written(one.value)}  ({one.origin})") for one in found),
        ]
    )
    config_servers.show(facts.get("servers", []))


def _servers(
    loaded: Loaded, key: KeyPath, agent: str | None, project: str | None, task: str | None
) -> list[dict[str, Any]]:
    """The MCP servers that agents get, put together; with a task as the board has it."""
    from aiagent_coordinator.cli.config_servers import merged
    from aiagent_coordinator.cli.connect import call
    from aiagent_coordinator.providers.configured import configured_catalog

    known = None if task is None else call(options.current(), "get_task", task_id=task)["task"]
    if known is not None:
        agent, project = agent or known.get("agent_id"), project or known["project_id"]
    catalog = configured_catalog(loaded)
    return merged(loaded, catalog, key, agent_id=agent, project_id=project, task=known)


def _file() -> Path:
    file = find_config(options.current().config)
    if file is None:
        raise ConfigError(text("config.none"), hint=text("config.none_hint"))
    return file


def _load(file: Path | None = None, content: str | None = None) -> Loaded:
    """Read the settings as a start would, providers included.

    Raises:
        CoordinatorError: a start would refuse them.
    """
    from aiagent_coordinator.config import load_settings
    from aiagent_coordinator.providers.catalog import load_catalog
    from aiagent_coordinator.providers.configured import configured_catalog

    given = options.current()
    file = file or find_config(given.config)
    loaded = load_settings(
        file,
        overrides=given.overrides,
        known_providers=tuple(load_catalog()),
        content=content,
    )
    configured_catalog(loaded)
    return loaded


def _content(file: Path) -> str:
    from aiagent_coordinator.config.source import read_source

    read_source(file)  # tells what cannot be read, and how
    with file.open(encoding="utf-8", newline="") as stream:
        return stream.read()


def _accepted(
    file: Path, content: str, key: tuple[str | int, ...], value: str
) -> tuple[str, Loaded]:
    """The changed content in the first way of writing the value that a start would take."""
    from aiagent_coordinator.config import edit
    from aiagent_coordinator.config.source import shown

    refusal: ConfigError | None = None
    for rendered in edit.renderings(value):
        try:
            changed = edit.with_value(content, key, rendered, shown(file))
            return changed, _load(file, changed)
        except ConfigError as error:
            refusal = refusal or error
    raise refusal or ConfigError(value)


def _is_inside(key: str, name: str) -> bool:
    return key == name or key.startswith((f"{name}.", f"{name}["))


def _written(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)
