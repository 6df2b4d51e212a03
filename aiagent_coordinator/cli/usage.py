"""`usage`: tokens and money of the runs that ended."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.messages import text

BY = ("agent", "project", "provider", "account", "model", "task", "day")


@click.command(help=text("help.usage"))
@click.option("--by", type=click.Choice(BY), default="agent", help=text("help.option.by"))
@click.option("--days", type=click.IntRange(1), metavar="N", help=text("help.option.days"))
@click.option("--project", metavar="ID", help=text("help.option.project"))
@options.as_json
@options.common
def usage(by: str, days: int | None, project: str | None, as_json: bool) -> None:
    """Show what runs used."""
    given: dict[str, Any] = {"by": by, "days": days, "project_id": project}
    asked = {name: value for name, value in given.items() if value is not None}
    answer = call(options.current(), "get_usage", **asked)
    if as_json:
        output.json_result(answer)
        return
    sums: list[dict[str, Any]] = answer["usage"]
    if not sums:
        output.talk(text("usage.none"))
        return
    headings = [text(f"table.{by}")]
    headings += [text(f"table.{name}") for name in ("runs", "in", "out", "cache", "cost")]
    output.table(
        headings,
        [
            (one["key"], one["runs"], one["in"], one["out"], one["cache"], _money(one))
            for one in sums
        ],
    )
    if any(one["estimated"] for one in sums):
        output.talk(text("usage.estimated"))
    silent = sum(one["silent"] for one in sums)
    if silent:
        output.talk(text("usage.silent", runs=silent))


def _money(one: dict[str, Any]) -> str:
    if one["cost"] is None:
        return ""
    return f"{'~' if one['estimated'] else ''}${one['cost']:.4f}"
