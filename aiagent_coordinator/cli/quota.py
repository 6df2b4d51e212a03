"""`quota [clear|until]`: limits of providers that are known, and a person's word on them."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, locate
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text


@click.group(help=text("help.quota"), invoke_without_command=True)
@options.as_json
@options.common
@click.pass_context
def quota(context: click.Context, as_json: bool) -> None:
    """List limits."""
    if context.invoked_subcommand is not None:
        return
    answer = call(options.current(), "list_limits")
    if as_json:
        output.json_result(answer)
        return
    limits: list[dict[str, Any]] = answer["limits"]
    if not limits:
        output.talk(text("quota.none"))
        return
    zone = locate(options.current()).zone
    names = ("provider", "account", "model", "limit", "state", "opens_at", "confidence")
    headings = [text(f"table.{name}") for name in (*names, "used", "waiting")]
    output.table(headings, [_line(one, zone) for one in limits])


def _line(one: dict[str, Any], zone: str) -> tuple[object, ...]:
    is_parked = one["state"] == "parked"
    until = output.local(one["until"], zone) if one.get("until") else None
    if is_parked and until is None:
        until = text("quota.somebody")
    used = one.get("used")
    return (
        one["provider"],
        one["account"],
        one["model"],
        one["name"],
        one["state"],
        until if is_parked else None,
        one["confidence"] if is_parked and one.get("until") else None,
        None if used is None else f"{used:.0%}",
        one["waiting_tasks"] or None,
    )


@quota.command(help=text("help.quota.clear"))
@click.argument("lane", metavar="LANE")
@options.as_json
@options.common
def clear(lane: str, as_json: bool) -> None:
    """Let something start there again."""
    answer = call(options.current(), "clear_limits", **_lane(lane))
    if as_json:
        output.json_result(answer)
        return
    cleared: list[dict[str, Any]] = answer["cleared"]
    for one in cleared:
        output.result(text("quota.cleared", name=_name(one)))
    if not cleared:
        output.talk(text("quota.nothing_closed"))


@quota.command(help=text("help.quota.until"))
@click.argument("lane", metavar="LANE")
@click.argument("when", metavar="WHEN")
@options.as_json
@options.common
def until(lane: str, when: str, as_json: bool) -> None:
    """Let nothing start there for a while."""
    answer = call(options.current(), "set_limit", **_lane(lane), **_when(when))
    if as_json:
        output.json_result(answer)
        return
    kept: dict[str, Any] = answer["limit"]
    zone = locate(options.current()).zone
    opens = output.local(kept["until"], zone) if kept["until"] else text("quota.somebody")
    output.result(text("quota.set", name=_name(kept), until=opens))


def _lane(given: str) -> dict[str, str]:
    provider, _, rest = given.partition("/")
    account, _, model = rest.partition("/")
    told = {"provider": provider, "account": account, "model": model}
    return {name: value for name, value in told.items() if value}


def _name(one: dict[str, Any]) -> str:
    return "/".join(filter(None, (one["provider"], one["account"], one["model"])))


def _when(given: str) -> dict[str, Any]:
    """An instant, or seconds from now; nothing for `never`.

    Raises:
        ValidationError: it is neither.
    """
    from aiagent_coordinator.clock import iso, parse_iso
    from aiagent_coordinator.config.values import BadValueError, parse_duration

    if given == "never":
        return {}
    try:
        return {"seconds": max(1, round(parse_duration(given)))}
    except BadValueError:
        pass
    try:
        return {"until": iso(parse_iso(given))}
    except ValueError:
        raise ValidationError(text("quota.bad_when", when=given[:100])) from None
