"""What is wrong with a workflow as a whole: it leads nowhere, never ends, or asks for what is forbidden. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiagent_coordinator.config.source import KeyPath, Problem
from aiagent_coordinator.workflows.definition import Rule, Stage, Workflow
from aiagent_coordinator.workflows.roles import may_call


def problems_of(workflow: Workflow) -> list[Problem]:
    """Every mistake, by the key it stands under; lines are not known here."""
    found = list(_unknown_targets(workflow))
    for stage in workflow.stages.values():
        found += _rules(workflow, stage)
    # what leads to nowhere says nothing about the rest
    return found or [*_unreachable(workflow), *_endless(workflow)]


def _unknown_targets(workflow: Workflow) -> Iterable[Problem]:
    for stage in workflow.stages.values():
        at: KeyPath = ("stages", stage.name)
        named: list[tuple[KeyPath, str | None]] = [
            ((*at, "after_reading"), stage.after_reading),
            *(((*at, "choices", word), target) for word, target in stage.choices.items()),
            *(((*at, "rules", place, "next"), rule.next) for place, rule in enumerate(stage.rules)),
        ]
        for key, target in named:
            if target is not None and target not in workflow.stages:
                listed = ", ".join(workflow.stages)
                yield Problem(0, key, f"there is no stage {target!r}; there are: {listed}")


def _rules(workflow: Workflow, stage: Stage) -> Iterable[Problem]:
    at: KeyPath = ("stages", stage.name, "rules")
    for place, rule in enumerate(stage.rules):
        for tool in rule.tools:
            if not may_call(workflow.role, tool):
                reason = f"a {workflow.role} may not call {tool!r}; remove it, or change the role"
                yield Problem(0, (*at, place, "tools"), reason)
        if not rule.when and not _is_limited(workflow, rule) and rule is not stage.rules[-1]:
            reason = "always holds, so what follows is never said; give it a `when`, or put it last"
            yield Problem(0, (*at, place), reason)
    if stage.rules and stage.rules[-1].when:
        reason = "the last rule must always hold; remove its `when`, or add a rule without"
        yield Problem(0, (*at, len(stage.rules) - 1), reason)


def _is_limited(workflow: Workflow, rule: Rule) -> bool:
    target = workflow.stages.get(rule.next or "")
    return target is not None and target.times is not None


def _unreachable(workflow: Workflow) -> Iterable[Problem]:
    seen = {workflow.first.name}
    edge = list(seen)
    while edge:
        new = workflow.stages[edge.pop()].leads_to() - seen
        seen |= new
        edge += new
    for name in workflow.stages:
        if name not in seen:
            reason = "no rule leads here; lead here with `next` or `choices`, or remove it"
            yield Problem(0, ("stages", name), reason)


def _endless(workflow: Workflow) -> Iterable[Problem]:
    """A circle of stages that may all be entered any number of times."""
    free: Mapping[str, set[str]] = {
        name: {one for one in stage.leads_to() if workflow.stages[one].times is None}
        for name, stage in workflow.stages.items()
        if stage.times is None
    }
    for name in free:
        circle = _way_back(free, name)
        if circle:
            way = " -> ".join(circle)
            reason = f"{way} goes round for ever; give one of these stages `times: N`"
            yield Problem(0, ("stages", name), reason)
            return


def _way_back(free: Mapping[str, set[str]], start: str) -> list[str]:
    came: dict[str, str] = {}
    edge = [start]
    while edge:
        here = edge.pop(0)
        for one in sorted(free[here]):
            if one == start:
                way = [start, here]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if one not in came:
                came[one] = here
                edge.append(one)
    return []
