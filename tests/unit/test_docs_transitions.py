"""The page of transitions is what the tables in the code say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from aiagent_coordinator.runs import REASONS
from aiagent_coordinator.tasks import TRANSITIONS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transitions", REFERENCE / "transitions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_the_generated_one():
    """A page that lags behind the code is worse than none."""
    page = (REFERENCE / "transitions.md").read_text("utf-8")
    assert page == _generator().page(), "run docs/reference/transitions.py"


def test_every_transition_and_every_reason_is_on_the_page():
    """The table is published vocabulary: nothing of it may be left out."""
    page = (REFERENCE / "transitions.md").read_text("utf-8")
    missing = [row.name for row in TRANSITIONS if f"| {row.name} | " not in page]
    missing += [reason for reason in REASONS if f"`{reason}`" not in page]
    assert not missing
