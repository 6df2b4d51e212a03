"""Failpoints do what the variable says, count as it says, and refuse what they do not know."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from aiagent_coordinator import failpoints
from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.errors import ConfigError

Switch = Callable[[str], None]


@pytest.fixture
def active(monkeypatch: pytest.MonkeyPatch) -> Switch:
    def switch_on(text: str) -> None:
        monkeypatch.setattr(failpoints, "_active", failpoints.parse(text))

    return switch_on


def test_nothing_happens_unless_it_was_asked_for(active: Switch):
    failpoints.hit("seal.committed")
    active("launch.held:error")
    failpoints.hit("seal.committed")


def test_terms_are_used_up_one_after_the_other(active: Switch):
    active("seal.committed:1*off->2*error->off")
    failpoints.hit("seal.committed")
    for _ in range(2):
        with pytest.raises(failpoints.InjectedFaultError, match=r"seal\.committed"):
            failpoints.hit("seal.committed")
    failpoints.hit("seal.committed")


def test_a_place_can_be_narrowed_to_one_tool(active: Switch):
    active("tool.done/report_completed:1*error")
    failpoints.hit("tool.done", "get_my_task")
    with pytest.raises(failpoints.InjectedFaultError):
        failpoints.hit("tool.done", "report_completed")
    failpoints.hit("tool.done", "report_completed")


def test_a_jump_moves_the_wall_clock_alone(active: Switch):
    day = 86400.0
    clock = SystemClock()
    before, steady = clock.now(), clock.monotonic()
    active(f"loop.pass:1*jump({day})->1*jump(-{day})")
    failpoints.hit("loop.pass")
    assert (clock.now() - before).total_seconds() >= day
    assert clock.monotonic() - steady < day
    failpoints.hit("loop.pass")
    assert (clock.now() - before).total_seconds() < day


@pytest.mark.parametrize(
    "text",
    [
        "nowhere:kill",
        "loop.pass:jump",
        "loop.pass:kill(1)",
        "seal.committed:explode",
        "seal.committed",
        "x",
    ],
)
def test_what_is_not_known_is_refused(text: str):
    with pytest.raises(ConfigError, match=failpoints.VARIABLE):
        failpoints.parse(text)


def generator() -> ModuleType:
    file = Path(__file__).parents[2] / "docs" / "reference" / "failpoints.py"
    spec = importlib.util.spec_from_file_location("failpoints_page", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says():
    module = generator()
    assert module.PAGE.read_text(encoding="utf-8") == module.page()
