"""What the program of a run says of itself while it runs, kept with the run."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import update

from aiagent_coordinator.clock import iso
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.requests import LiveFacts
from aiagent_coordinator.store.runs import emit_run
from aiagent_coordinator.store.unit import Unit

_run = tables.run

#: What is kept of an activity.
MAX_ACTIVITY_CHARS: Final = 200
#: Windows of limits that are kept.
MAX_LIMITS: Final = 16
#: Compactions that one call can tell of.
MAX_AT_ONCE: Final = 50


def keep_live(unit: Unit, run: Run, live: LiveFacts, *, actor: str) -> None:
    """Keep what changed, and say of each compaction that it is new. Saying it again changes nothing."""
    facts: dict[str, Any] = {
        name: value
        for name in ("usage", "counts")
        if (value := getattr(live, name)) is not None and value != getattr(run, name)
    }
    if live.activity is not None and live.activity != run.activity:
        facts["activity"] = live.activity[:MAX_ACTIVITY_CHARS] or None
    if live.limits is not None and list(live.limits) != list(run.limits):
        facts["limits"] = list(live.limits)[:MAX_LIMITS]
    if live.context is not None:
        facts["context"] = {**live.context, "at": iso(unit.now)}
    known = run.compactions or 0
    if live.compactions is not None and live.compactions > known:
        facts["compactions"] = live.compactions
    if not facts:
        return
    unit.conn.execute(update(_run).where(_run.c.id == run.id).values(facts))
    words = live.compacted
    for number in range(known + 1, facts.get("compactions", known) + 1)[-MAX_AT_ONCE:]:
        place = number - (live.compactions or 0) - 1
        text = words[place] if -place <= len(words) else ""
        emit_run(unit, run, "run.compacted", actor=actor, number=number, text=text)
