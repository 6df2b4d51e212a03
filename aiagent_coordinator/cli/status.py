"""`status`: whether the server runs, and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import board, locate
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire import lockfile


@click.command(help=text("help.status"))
@options.as_json
@options.common
def status(as_json: bool) -> None:
    """Ask the server how it stands."""
    place = locate(options.current())
    with board(place) as client:
        answer = client.call("get_status", {})
        version = client.server.version
    holder = lockfile.read(str(place.state_dir.server_lock)) or {}
    known: dict[str, Any] = {
        "version": version,
        "pid": holder.get("pid"),
        "socket": str(place.socket),
        "state_dir": str(place.state_dir.root),
        **answer,
    }
    if as_json:
        output.json_result(known)
        return
    output.result(text("status.running", version=version, pid=known["pid"], socket=place.socket))
    if answer.get("degraded"):
        output.result(text("status.degraded", what=", ".join(map(str, answer["degraded"]))))  # pyright: ignore[reportArgumentType] - our own server's answer
    for section in ("tasks", "runs"):
        output.result(text(f"status.{section}", counts=_counts(answer.get(section))))
    _print_lines(answer)
    waiting: dict[str, int] = answer.get("approvals") or {}
    if any(waiting.values()):
        output.result(text("status.approvals", **waiting))
    if answer.get("questions"):
        output.result(text("status.questions", counts=answer["questions"]))


def _print_lines(answer: Mapping[str, Any]) -> None:
    """Print what there are several of: what runs do, what rests, waits, or needs a person."""
    # our own server's answer, whose shape its tests hold
    for one in cast("list[dict[str, Any]]", answer.get("live") or []):
        if one.get("activity") or one.get("context"):
            output.result(text("status.live", **one, told=output.doing(one)))
    for section in ("circuit", "wait"):
        for one in cast("list[dict[str, Any]]", answer.get(f"{section}s") or []):
            output.result(text(f"status.{section}", **one))
    for one in cast("list[dict[str, Any]]", answer.get("parked") or []):
        output.result(one["why"])
    for one in cast("list[dict[str, Any]]", answer.get("logins") or []):
        said = f" ({one['text']})" if one.get("text") else ""
        output.result(text("status.login", lane=one["lane"], said=said))


def _counts(counts: object) -> str:
    if not isinstance(counts, dict):
        return text("status.nothing")
    parts = [f"{number} {name}" for name, number in counts.items() if number]  # pyright: ignore[reportUnknownVariableType] - JSON
    return ", ".join(parts) or text("status.nothing")
