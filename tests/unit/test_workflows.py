"""Workflows as data: what a file may say, how its mistakes are told, and that every one that ships ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiagent_coordinator.errors import ConfigError, LimitError, NotFoundError, ValidationError
from aiagent_coordinator.store.waking import is_needed
from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.wire.protocol import AGENT_TOOLS
from aiagent_coordinator.workflows import engine
from aiagent_coordinator.workflows.definition import (
    Action,
    State,
    Step,
    Subtask,
    Workflow,
)
from aiagent_coordinator.workflows.library import PROJECT_FOLDER, SHIPPED_FOLDER, Library, shipped
from aiagent_coordinator.workflows.reading import load_workflow
from aiagent_coordinator.workflows.roles import (
    MANAGERS_ONLY,
    NOT_FOR_REVIEWERS,
    REVIEWERS_ONLY,
    may_call,
)

SHIPPED = sorted(file.stem for file in SHIPPED_FOLDER.glob("*.yaml"))
#: Plan, build, test, and back to building at most three times.
LOOP = """\
schema: 1
role: worker
title: Plan, build, test
stages:
  plan:
    rules:
      - do: work
        say: Plan.
        next: build
  build:
    times: 3
    rules:
      - do: work
        say: Build.
        next: test
  test:
    choices: {passed: done, failed: build}
    rules:
      - do: work
        say: Test, then choose.
  done:
    rules:
      - do: report_completion
        say: Report.
"""


def read(folder: Path, text: str, name: str = "mine") -> Workflow:
    file = folder / f"{name}.yaml"
    file.write_text(text, "utf-8")
    return load_workflow(file)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    lines = caught.value.details["problems"]
    assert isinstance(lines, list)
    assert caught.value.exit_code == 3
    return [str(line).replace(f"{folder}/mine.yaml", "F") for line in lines]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - lines


def change(old: str, new: str) -> str:
    assert old in LOOP
    return LOOP.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (change("next: test", "next: tset"), "F:15: stages.build.rules[0].next: there is no stage 'tset'"),
        (change("failed: build", "failed: nowhere"), "stages.test.choices.failed: there is no stage"),
        (change("    times: 3\n", ""), "build -> test -> build goes round for ever; give one of"),
        (change("passed: done, ", ""), "stages.done: no rule leads here"),
        (change("role: worker", "role: boss"), "F:2: role: must be one of worker, manager, reviewer"),
        (change("schema: 1", "schema: 2"), "F:1: schema: must be 1"),
        (change("say: Plan.", "sya: Plan."), "F:8: stages.plan.rules[0].sya: unknown key (did you mean say?)"),
        (change("do: work", "do: wrok"), "must be one of get_task, work,"),
        (
            change("say: Plan.", "say: Plan.\n        tools: [assign_task]"),
            "a worker may not call 'assign_task'; remove it, or change the role",
        ),
        (change("say: Plan.", "say: Plan.\n        tools: [fly]"), "a worker may not call 'fly'"),
        (
            change("say: Plan.", "say: Plan.\n        when: [has_subtask]"),
            "unknown fact 'has_subtask' (did you mean has_subtasks?)",
        ),
        (
            change("say: Plan.", "say: Plan.\n        when: [not has_subtasks]"),
            "the last rule must always hold",
        ),
        (change("say: Report.", "say: Report.\n      - do: exit\n        say: Never."), "always holds, so"),
        (change("say: Plan.", "say: Plan {subtask_id}."), "say with `about` which one is meant"),
        (change("  plan:\n    rules:\n      - do: work\n", "  plan:\n    rules:\n      - use: none\n      - do: work\n"), "there is no group 'none'"),
        (change("times: 3", "times: 0"), "must be a whole number from 1 to 1000"),
        ("stages: 3\n", "stages: must be a mapping"),
        ("", "stages: "),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_file_line_key_and_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    lines = mistakes(tmp_path, text)
    assert any(said in line for line in lines), lines


def test_a_circle_ends_after_as_many_times_as_its_stage_says(tmp_path: Path) -> None:
    workflow = read(tmp_path, LOOP)
    state = State(entered={"build": 2})
    assert engine.after_choice(workflow, state.at("test"), "failed") == "build"
    with pytest.raises(LimitError):
        engine.after_choice(workflow, State("test", entered={"build": 3}), "failed")
    with pytest.raises(ValidationError, match="passed, failed"):
        engine.after_choice(workflow, state.at("test"), "sing")
    with pytest.raises(ValidationError, match="nothing to choose"):
        engine.after_choice(workflow, state, "failed")


def test_a_project_shadows_the_user_and_the_user_what_ships_and_a_bad_file_is_its_own(
    tmp_path: Path,
) -> None:
    """Looked up project, user, built-in; a file that is changed counts at once."""
    user, project = tmp_path / "user", tmp_path / "project"
    folder = project / PROJECT_FOLDER
    user.mkdir()
    folder.mkdir(parents=True)
    library = Library(user)
    assert library.find("worker", project).title == shipped("worker").title
    (user / "worker.yaml").write_text(LOOP, "utf-8")
    assert library.find("worker", project).title == "Plan, build, test"
    (folder / "worker.yaml").write_text(change("role: worker", "role: nobody"), "utf-8")
    with pytest.raises(ConfigError, match=r"worker\.yaml:2: role:"):
        library.find("worker", project)
    assert library.find("worker", None).title == "Plan, build, test"
    assert library.find("manager", project).role is Duty.MANAGER
    (folder / "worker.yaml").write_text(change("Plan, build, test", "Mine"), "utf-8")
    assert library.find("worker", project).title == "Mine"
    listed = {one.name: one.origin for one in library.list(project)}
    assert listed["worker"] == "project"
    assert listed["manager"] == "built-in"
    with pytest.raises(NotFoundError, match="there are: manager, reviewer, worker"):
        library.find("../worker", project)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_right_and_named_after_its_file(name: str) -> None:
    workflow = shipped(name)
    assert workflow.name == name
    told = {rule.do for stage in workflow.stages.values() for rule in stage.rules}
    assert Action.GET_TASK in told
    assert Action.REPORT_COMPLETION in told


def test_a_workers_tools_and_a_managers_are_those_of_the_table() -> None:
    for tool in AGENT_TOOLS:
        assert may_call(Duty.MANAGER, tool) is (tool not in REVIEWERS_ONLY)
        assert may_call(Duty.WORKER, tool) is (tool not in MANAGERS_ONLY | REVIEWERS_ONLY)
        assert may_call(Duty.REVIEWER, tool) is (tool not in MANAGERS_ONLY | NOT_FOR_REVIEWERS)
    assert not may_call(Duty.MANAGER, "claim_run")


@dataclass
class World:
    """A task and what becomes of it while an agent obeys: the sub-tasks, and how often it was started."""

    data: st.DataObject
    workflow: Workflow
    has_workers: bool
    parts: dict[str, str] = field(default_factory=dict[str, str])
    stage: str | None = None
    entered: dict[str, int] = field(default_factory=dict[str, int])
    is_reported: bool = False
    is_waiting: bool = False
    made: int = 0
    has_verdict: bool = False

    @property
    def state(self) -> State:
        return State(
            self.stage,
            self.is_reported,
            subtasks=tuple(Subtask(one, "t", word) for one, word in self.parts.items()),
            is_waiting=self.is_waiting,
            has_workers=self.has_workers,
            has_verdict=self.has_verdict,
            entered=self.entered,
        )

    def ask(self) -> Step:
        step = engine.next_step(self.workflow, self.state)
        self.go(step.stage, step.enters)
        return step

    def go(self, stage: str | None, counted: str | None) -> None:
        self.stage = stage
        if counted is not None:
            self.entered[counted] = self.entered.get(counted, 0) + 1

    def choose(self, choice: str) -> bool:
        """Whether it could be chosen."""
        if choice == "wait" and not {"running", "ready"} & set(self.parts.values()):
            return False
        try:
            stage = engine.after_choice(self.workflow, self.state, choice)
        except LimitError:
            return False
        self.go(stage, engine.limited(self.workflow, stage))
        self.is_waiting = choice == "wait"
        return True

    def others_work(self) -> None:
        """What goes on goes on until the one that waits is needed again."""
        awaited = dict(self.parts)
        while not is_needed(awaited, self.parts):
            moving = [one for one, word in self.parts.items() if word in {"running", "ready"}]
            assert moving, "nothing moves, and nobody is woken"
            one = self.data.draw(st.sampled_from(moving))
            self.parts[one] = self.data.draw(st.sampled_from(("running", "over", "blocked")))
        self.stage, self.is_waiting = None, False


def obey(world: World, step: Step) -> None:  # noqa: C901, PLR0912 - a move for each word
    """One of the moves that a step asks for."""
    draw, parts = world.data.draw, world.parts
    meant = step.subtask.id if step.subtask else ""
    give_up = {one: "over" for one, word in parts.items() if word == "blocked"}
    match step.action:
        case Action.GET_TASK:
            world.stage = engine.after_reading(world.workflow, world.stage)
        case Action.REPORT_COMPLETION:
            world.is_reported = True
        case Action.CREATE_SUBTASKS | Action.ADJUST if world.made < 8:
            for _ in range(draw(st.integers(1, 3))):
                world.made += 1
                kind = draw(st.sampled_from(("unassigned", "ready", "waiting")))
                parts[f"p{world.made}"] = kind
        case Action.CREATE_SUBTASKS:
            world.is_reported = True
        case Action.ADJUST:
            parts |= dict.fromkeys(parts, "over")
        case Action.ASSIGN:
            parts[meant] = draw(st.sampled_from(("ready", "over")))
        case Action.START_SUBTASK:
            parts[meant] = "running"
        case Action.EXECUTE_SUBTASK:
            parts[meant] = draw(st.sampled_from(("over", "blocked")))
        case Action.REVIEW_BLOCKS:
            parts |= give_up
        case Action.DEADLOCK | Action.BLOCK_SUBTASK:
            parts[meant] = "over"
        case Action.AWARENESS | Action.COMPLETION_CHECK:
            wanted = draw(st.permutations(step.choices))
            if not any(world.choose(one) for one in wanted):
                world.is_reported = True
        case Action.WAIT:
            world.others_work()
        case Action.REVIEW:
            world.has_verdict = True
        case _:
            assert step.action in {Action.WORK, Action.DISPATCH}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
def test_an_agent_that_obeys_ends_hears_nothing_twice_and_nothing_it_may_not_do(
    name: str, data: st.DataObject
) -> None:
    """Random valid agents through every workflow that ships."""
    workflow = shipped(name)
    world = World(data, workflow, data.draw(st.booleans()))
    if workflow.role is Duty.WORKER:
        kinds = data.draw(st.lists(st.sampled_from(("ready", "running", "blocked")), max_size=4))
        world.parts = {f"s{number}": kind for number, kind in enumerate(kinds)}
    before: tuple[str, str | None, str] | None = None
    for _ in range(3000):
        step = world.ask()
        if step.action is Action.EXIT:
            assert world.is_reported
            return
        told = [
            rule.tools
            for stage in workflow.stages.values()
            for rule in stage.rules
            if rule.do is step.action
        ]
        assert all(may_call(workflow.role, tool) for tools in told for tool in tools)
        said = (step.action, step.subtask.id if step.subtask else None, repr(world.parts))
        assert said != before or step.action is Action.WAIT, said
        before = said
        obey(world, step)
    raise AssertionError("it never ends")


def test_the_workflow_of_the_documentation_can_be_used(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "workflows.md"
    block = next(
        part.partition("```")[0]
        for part in page.read_text("utf-8").split("```yaml\n")[1:]
        if part.startswith("schema")
    )
    assert list(read(tmp_path, block).stages) == ["plan", "build", "test", "done"]


def test_where_no_rule_is_left_the_agent_is_to_report(tmp_path: Path) -> None:
    step = engine.next_step(read(tmp_path, LOOP), State("plan", entered={"build": 3}))
    assert step.action is Action.REPORT_COMPLETION


def test_a_link_out_of_the_project_is_no_workflow_of_it(tmp_path: Path) -> None:
    """An agent that can write into the project must not have the server read other files to it."""
    folder = tmp_path / "project" / PROJECT_FOLDER
    folder.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("password: hunter2\n", "utf-8")
    (folder / "mine.yaml").symlink_to(secret)
    library = Library(tmp_path / "user")
    with pytest.raises(ConfigError, match="leads out of its project") as caught:
        library.find("mine", tmp_path / "project")
    assert "password" not in str(caught.value)
    problem = next(one for one in library.list(tmp_path / "project") if one.name == "mine").problem
    assert problem is not None
    assert "password" not in problem.message
