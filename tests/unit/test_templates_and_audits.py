"""Templates and audits as files: what they may say, how their mistakes are told, and how texts are filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.audits import FACTS, TAKEN, Change, LockSubject, Rule, Trigger, fires
from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.tasks import Duty, Task, TaskStatus
from aiagent_coordinator.templates import fill, mistake_in, variables_in
from aiagent_coordinator.workflows.audit_files import load_audit
from aiagent_coordinator.workflows.finding import Finder, Kind
from aiagent_coordinator.workflows.library import AUDITS, TEMPLATES
from aiagent_coordinator.workflows.template_files import load_template

TEMPLATE = """\
schema: 1
title: A release
role: worker
variables:
  version: {about: "Like 1.2"}
  notes: {default: ""}
tasks:
  - order: 1
    title: "Cut {{version}}"
    agent: ann
  - order: 2
    title: Announce
    description: "{{ notes }} with {{{{braces}}"
    depends_on_orders: [1]
"""
AUDIT = """\
schema: 1
title: Watch
rules:
  - trigger: status_changed
    to: [failed]
    agents: [ann]
    lock: [task, agent]
    tasks:
      - order: 1
        title: "Why did {{task_title}} fail?"
"""


def mistakes(load: Callable[[Path], Any], folder: Path, text: str) -> list[str]:
    file = folder / "mine.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.exit_code == 3
    lines: Any = caught.value.details["problems"]
    return [str(line).replace(str(file), "F") for line in lines]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("depends_on_orders: [1]", "depends_on_orders: [3]", "F:14: tasks[1].depends_on_orders[0]: there is no order 3; there are: 1, 2"),
        ("agent: ann", "depends_on_orders: [2]", "F:10: tasks[0].depends_on_orders: these wait for each other: 1 -> 2 -> 1"),
        ("depends_on_orders: [1]", "depends_on_orders: [2]", "these wait for each other: 2 -> 2"),
        ("order: 2", "order: 1", "F:11: tasks[1].order: order 1 is there twice"),
        ("order: 2", "order: 0", "F:11: tasks[1].order: must be a whole number from 1 to 1000"),
        ("Cut {{version}}", "Cut {{verson}}", "F:9: tasks[0].title: unknown variable 'verson' (did you mean version?); there are: version, notes"),
        ("Cut {{version}}", "Cut {{ver sion}}", "F:9: tasks[0].title: '{{ver sion}}' is no variable: write {{name}}, or four braces"),
        ("{{ notes }} with", "with", "F:6: variables.notes: no task names it; remove it"),
        ("agent: ann", "agent: ann\n    role: worker", "tasks[0].role: `agent` says already who does it"),
        ("role: worker", "role: reviewer", "F:3: role: must be one of worker, manager"),
        ("agent: ann", "agent: Ann Smith", "F:10: tasks[0].agent: must be the id of an agent"),
        ("agent: ann", "agnet: ann", "F:10: tasks[0].agnet: unknown key (did you mean agent?); remove it"),
        ('default: ""', "default: 3", "F:6: variables.notes.default: must be text; put it in quotes"),
        ("  version: {", "  Version: {", "variables.Version: is no name of a variable"),
        ("title: Announce", "title: ''", "F:12: tasks[1].title: needs a text of at most 300 characters"),
        ("agent: ann", "needs_approval: maybe", "tasks[0].needs_approval: must be true or false"),
        ("schema: 1", "schema: 2", "F:1: schema: must be 1, the only one there is"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_template_is_told_with_its_line_and_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert TEMPLATE.count(old) == 1
    lines = mistakes(load_template, tmp_path, TEMPLATE.replace(old, new))
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("status_changed", "task_finished", "F:4: rules[0].trigger: must be one of task_completed, status_changed, handoff_completed, deadline_exceeded"),
        ("to: [failed]", "to: [fialed]", "F:5: rules[0].to[0]: must be one of"),
        ("    to: [failed]\n", "", "rules[0].to: must be a list of words"),
        ("status_changed", "task_completed", "F:5: rules[0].to: is for `trigger: status_changed` alone"),
        ("to: [failed]", "to: [running]", "F:7: rules[0].lock: the task may run then, and what its run brings is taken"),
        ("lock: [task, agent]", "lock: [project]", "F:7: rules[0].lock[0]: must be one of task, agent"),
        ("{{task_title}}", "{{title}}", "unknown variable 'title'"),
        ('    lock: [task, agent]\n    tasks:\n      - order: 1\n        title: "Why did {{task_title}} fail?"\n', "", "F:4: rules[0]: does nothing; add `tasks`, or `lock`"),
        ("title: Watch", "title: Watch\nstatus: active", "F:3: status: unknown key"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_audit_is_told_with_its_line_and_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert AUDIT.count(old) == 1
    lines = mistakes(load_audit, tmp_path, AUDIT.replace(old, new))
    assert any(said in line for line in lines), lines


def test_a_file_is_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "release.yaml"
    file.write_text(TEMPLATE, "utf-8")
    template = load_template(file)
    assert template.name == "release"
    assert [(one.agent_id, one.role) for one in template.tasks] == [
        ("ann", None),
        (None, Duty.WORKER),
    ]
    assert template.variables["notes"].default == ""
    file.write_text(AUDIT, "utf-8")
    (rule,) = load_audit(file).rules
    assert (rule.trigger, rule.to, rule.agents) == (
        Trigger.STATUS_CHANGED,
        (TaskStatus.FAILED,),
        ("ann",),
    )
    assert rule.lock == (LockSubject.TASK, LockSubject.AGENT)


def test_every_file_that_ships_can_be_used_and_the_projects_own_goes_first(tmp_path: Path) -> None:
    kinds: list[Kind[Any]] = [TEMPLATES, AUDITS]
    for kind in kinds:
        found = Finder(kind, tmp_path / "none").list(None)
        assert found
        assert [one.problem for one in found] == [None] * len(found)
    user, project = tmp_path / "user", tmp_path / "project"
    own = project / TEMPLATES.in_project
    for folder, title in ((user, "Mine"), (own, "Ours")):
        folder.mkdir(parents=True)
        text = TEMPLATE.replace("A release", title)
        (folder / "feature.yaml").write_text(text, "utf-8")
    finder = Finder(TEMPLATES, user)
    assert finder.find("feature", project).title == "Ours"
    assert finder.find("feature", None).title == "Mine"
    with pytest.raises(NotFoundError, match="TEMPLATE_NOT_FOUND: there is no template 'x'"):
        finder.find("x", project)
    (own / "out.yaml").symlink_to(user / "feature.yaml")
    with pytest.raises(ConfigError, match="leads out of its project"):
        finder.find("out", project)


WORDS = st.text(st.sampled_from("{}ab "), max_size=30)


@given(WORDS, st.dictionaries(st.sampled_from(["a", "b", "ab"]), WORDS))
def test_a_text_is_filled_once_and_its_braces_are_what_they_say(
    text: str, values: dict[str, str]
) -> None:
    """Whatever values hold stays as it is; four braces are two; nothing else of two braces is let in."""
    named = variables_in(text)
    if mistake_in(text) is None and set(named) <= values.keys():
        filled = fill(text, values)
        expected, rest = "", text
        while rest:
            if rest.startswith("{{{{"):
                expected, rest = expected + "{{", rest[4:]
            elif rest.startswith("{{"):
                name, _, rest = rest[2:].partition("}}")
                expected += values[name.strip()]
            else:
                expected, rest = expected + rest[0], rest[1:]
        assert filled == expected
    quoted = text.replace("{{", "{{{{")
    assert mistake_in(quoted) is None
    assert fill(quoted, {}) == text


def test_what_audits_may_name_is_told_in_the_docs() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "audits-and-templates.md"
    told = page.read_text("utf-8")
    assert all(f"`{fact}`" in told for fact in FACTS)
    assert all(f"`{trigger}`" in told for trigger in Trigger)


NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task("tsk_1", "app", "ann", "T", "", TaskStatus.RUNNING, NOW, NOW)


@pytest.mark.parametrize(
    ("change", "triggers"),
    [
        (Change("T13", TaskStatus.SUCCEEDED, None), {"task_completed"}),
        (Change("T12", TaskStatus.SUCCEEDED, "approved"), {"task_completed"}),
        (Change("T16", TaskStatus.FAILED, "agent_reported"), {"status_changed"}),
        (Change("T16", TaskStatus.FAILED, "timed_out"), {"status_changed", "deadline_exceeded"}),
        (Change("T19", TaskStatus.FAILED, "question_timeout"), {"status_changed", "deadline_exceeded"}),
        (Change("T1", TaskStatus.QUEUED, None), set[str]()),
        (Change("T3", TaskStatus.QUEUED, None), {"status_changed"}),
        (Change(TAKEN, TaskStatus.RUNNING, None), {"handoff_completed"}),
        (Change(TAKEN, TaskStatus.SUCCEEDED, None), {"handoff_completed"}),
    ],
)  # fmt: skip
def test_a_change_meets_the_rules_that_wait_for_it(change: Change, triggers: set[str]) -> None:
    """A question that waited too long, and a run, are the only times that tasks have."""
    rules = [Rule(one, (TaskStatus.FAILED, TaskStatus.QUEUED)) for one in Trigger]
    assert {one.trigger.value for one in rules if fires(one, TASK, change)} == triggers
    others = [replace(one, agents=("bob",)) for one in rules]
    assert not any(fires(one, TASK, change) for one in others)
