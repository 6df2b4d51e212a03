"""What a run's program says of itself is told once, and at once where somebody must act."""

from __future__ import annotations

from typing import Any

from aiagent_coordinator.pipeline.context import Control

LIMIT = {"window": "five_hour", "status": "warning", "used": 0.9, "resets_at": None}


def heard() -> tuple[Control, list[bool]]:
    control = Control()
    calls: list[bool] = []
    control.on_live = calls.append
    return control, calls


def test_only_what_changed_is_told_and_only_until_it_is_known():
    control, calls = heard()
    control.say({"activity": "writing", "compactions": 1, "compacted": ["auto"]})
    news = control.news()
    assert news == {"activity": "writing", "compactions": 1, "compacted": ["auto"]}
    # the call was lost: it is told again
    assert control.news() == news
    control.has_told(news)
    assert control.news() == {}
    control.say({"activity": "thinking", "compactions": 1, "compacted": ["auto"]})
    assert control.news() == {"activity": "thinking"}
    # the same again is nothing new
    control.say({"activity": "thinking", "compactions": 1, "compacted": ["auto"]})
    assert calls == [False, False]


def test_what_changes_while_it_is_told_is_told_next():
    control, _calls = heard()
    control.say({"activity": "writing"})
    news = control.news()
    control.say({"activity": "thinking"})
    control.has_told(news)
    assert control.news() == {"activity": "thinking"}


def test_a_limit_is_told_at_once():
    control, calls = heard()
    control.say({"activity": "writing"})
    control.say({"activity": "writing", "limits": [LIMIT]})
    control.say({"activity": "thinking", "limits": [LIMIT]})
    assert calls == [False, True, False]


def test_use_is_told_at_once_from_where_the_server_wants_to_know_of_it():
    control, calls = heard()
    control.learn({"tell_at": {"tokens": 100, "cost": 5.0}})

    def use(fresh: int, cost: float) -> dict[str, Any]:
        return {"usage": {"in": fresh, "out": 0, "cache": 0, "cost": cost}}

    for live in (use(50, 0.5), use(100, 0.5), use(100, 0.5), use(10, 6.0)):
        control.say(live)
    assert calls == [False, True, True]
