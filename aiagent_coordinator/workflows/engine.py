"""What an agent is told next: a workflow and what is known in, one answer out. Pure."""

from __future__ import annotations

from aiagent_coordinator.errors import LimitError, ValidationError
from aiagent_coordinator.workflows import words
from aiagent_coordinator.workflows.definition import (
    PLACEHOLDER,
    Action,
    Rule,
    Stage,
    State,
    Step,
    Subtask,
    Workflow,
)


def next_step(workflow: Workflow, state: State) -> Step:
    """Decide what the agent does next.

    First what holds in every workflow: a stop, a report, a wait. Then the first rule of its stage
    whose conditions hold, and which leads to no stage that was entered as often as it may be. Where
    none is left the agent is to report.
    """
    if state.stop_reason is not None:
        return Step(Action.EXIT, words.stopped(state.stop_reason), state.stage)
    if state.is_waiting:
        return Step(Action.WAIT, words.WAITING, state.stage, state="waiting_for_workers")
    if state.is_reported:
        return Step(Action.EXIT, words.FINISHED, state.stage)
    if state.is_suspended:
        return Step(Action.EXIT, words.SUSPENDED, state.stage)
    if state.missing:
        text = words.missing_evidence(state.missing)
        return Step(Action.REPORT_COMPLETION, text, state.stage)
    stage = workflow.at(state.stage)
    holding = (
        rule
        for rule in stage.rules
        if rule.holds(state) and not _is_full(workflow, stage, rule.next, state)
    )
    rule = next(holding, None)
    if rule is None:
        return Step(Action.REPORT_COMPLETION, words.NO_FURTHER, state.stage)
    return _answer(workflow, stage, rule, state)


def after_reading(workflow: Workflow, stage: str | None) -> str | None:
    """The stage of an agent that has just read its task; reading it again loses nothing."""
    return workflow.at(stage).after_reading or stage


def after_choice(workflow: Workflow, state: State, choice: str) -> str:
    """The stage that a choice of the agent leads to.

    Raises:
        ValidationError: this cannot be chosen now.
        LimitError: it was chosen as often as it may be.
    """
    stage = workflow.at(state.stage)
    target = stage.choices.get(choice)
    if target is None:
        listed = ", ".join(stage.choices)
        said = f"choose one of: {listed}" if listed else "there is nothing to choose now"
        raise ValidationError(
            f"{choice[:100]!r} cannot be chosen now; {said}",
            hint="call get_next_action and do what it says",
            key="action",
        )
    if _is_full(workflow, stage, target, state):
        raise LimitError(
            f"WORKFLOW_LIMIT: {choice!r} was chosen {workflow.stages[target].times} times, as often as "
            "it may be",
            hint="choose something else, or end the task with report_completed",
            limit="WORKFLOW_LIMIT",
        )
    return target


def limited(workflow: Workflow, stage: str | None) -> str | None:
    """The stage, when entering it counts."""
    known = workflow.stages.get(stage or "")
    return known.name if known is not None and known.times is not None else None


def _is_full(workflow: Workflow, stage: Stage, target: str | None, state: State) -> bool:
    if target is None or target == stage.name:
        return False
    most = workflow.stages[target].times
    return most is not None and state.entered.get(target, 0) >= most


def _answer(workflow: Workflow, stage: Stage, rule: Rule, state: State) -> Step:
    meant = next((one for one in state.subtasks if one.status == rule.about), None)
    goes = rule.next is not None and rule.next != stage.name
    return Step(
        rule.do,
        _filled(rule.say, meant),
        rule.next or state.stage,
        meant,
        rule.state,
        tuple(stage.choices) if not goes else tuple(workflow.at(rule.next).choices),
        limited(workflow, rule.next) if goes else None,
    )


def _filled(text: str, meant: Subtask | None) -> str:
    if meant is None:
        return text
    values = {"subtask_id": meant.id, "subtask_title": repr(meant.title)}
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)
