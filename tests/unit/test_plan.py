"""What the plan decides, without a process."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.coordinator.plan import Action, Limits, Live, plan
from aiagent_coordinator.runs import Assignment, Purpose


def action(agent: str, project: str, kind: str = "start", slots: int = 1) -> Action:
    return Action(Assignment(agent, project), kind, "has_task", "rehearsal", slots_free=slots)


def live(agent: str, project: str, slot: int = 0, *, holds_place: bool = True) -> Live:
    return Live(f"run-{agent}-{project}-{slot}", Assignment(agent, project), "r", slot, holds_place)


def started(actions: list[Action], lives: list[Live], limits: Limits) -> list[tuple[str, str, int]]:
    decided = plan(actions, lives, limits)
    return [
        (one.action.assignment.agent_id, one.action.assignment.project_id, one.slot)
        for one in decided.starts
    ]


def test_starts_what_the_server_offers_and_nothing_else():
    actions = [action("a", "p"), action("b", "p", "hold"), action("c", "p", "nonsense")]
    assert started(actions, [], Limits(5)) == [("a", "p", 0)]


def test_the_global_limit_holds_and_says_so():
    decided = plan([action("a", "p"), action("b", "p")], [live("x", "p")], Limits(2))
    assert len(decided.starts) == 1
    assert [wait.reason for wait in decided.waits] == ["max_concurrent reached (2/2)"]


def test_a_run_that_is_finishing_frees_its_place_but_not_its_slot():
    """Its task is not free before its result is in; another agent may start meanwhile."""
    finishing = live("a", "p", holds_place=False)
    decided = plan([action("a", "p"), action("b", "p")], [finishing], Limits(1))
    assert [one.action.assignment.agent_id for one in decided.starts] == ["b"]
    assert decided.waits[0].reason == "the run before is finishing"


def test_an_agent_with_two_places_uses_two_slots_of_one_project():
    limits = Limits(5, per_agent={"a": 2})
    assert started([action("a", "p", slots=3)], [], limits) == [("a", "p", 0), ("a", "p", 1)]
    assert started([action("a", "p", slots=1)], [live("a", "p", 0)], limits) == [("a", "p", 1)]


def test_the_board_and_the_settings_both_limit_an_agent():
    """An agent of the board stands in no file; of one that stands in both the smaller number holds."""
    three = replace(action("a", "p", slots=5), max_concurrent=3)
    assert len(started([three], [], Limits(9))) == 3
    assert len(started([three], [], Limits(9, per_agent={"a": 2}))) == 2
    assert len(started([three], [live("a", "q"), live("a", "p")], Limits(9))) == 1


def test_the_limit_of_an_agent_counts_over_all_its_projects():
    limits = Limits(5, per_agent={"a": 1})
    assert started([action("a", "q")], [live("a", "p")], limits) == []


def test_projects_take_turns():
    """A project with many agents does not take every place before the next one has any."""
    actions = [action(name, "big") for name in "abcd"] + [action("e", "small")]
    starts = started(actions, [], Limits(2))
    assert [project for _, project, _ in starts] == ["big", "small"]


def test_who_waited_longest_is_first():
    decided = plan(
        [action("a", "p"), action("b", "q")], [], Limits(1), last_started={"p": 7, "q": 3}
    )
    assert decided.starts[0].action.assignment.project_id == "q"


def test_what_rests_waits_with_its_reason():
    resting = {Assignment("a", "p"): "claimed by another"}
    decided = plan([action("a", "p")], [], Limits(3), resting=resting)
    assert (decided.starts, decided.waits[0].reason) == ((), "claimed by another")


names = st.sampled_from("abc")


@given(
    st.lists(
        st.builds(action, names, st.sampled_from("pqr"), st.just("start"), st.integers(-1, 4))
    ),
    st.lists(st.builds(live, names, st.sampled_from("pqr"), st.integers(0, 3))),
    st.integers(1, 6),
    st.dictionaries(names, st.integers(1, 3)),
    st.dictionaries(st.sampled_from("pqr"), st.integers(1, 3)),
)
def test_no_plan_ever_exceeds_a_limit_or_takes_a_slot_twice(
    actions: list[Action],
    lives: list[Live],
    total: int,
    per_agent: dict[str, int],
    per_project: dict[str, int],
):
    limits = Limits(total, per_agent, per_project)
    decided = plan(actions, lives, limits)
    after = [run.assignment for run in lives] + [one.action.assignment for one in decided.starts]
    begun = {one.action.assignment for one in decided.starts}
    if begun:
        assert len(after) <= total
    for assignment in begun:
        agent = sum(one.agent_id == assignment.agent_id for one in after)
        assert agent <= per_agent.get(assignment.agent_id, total)
        if assignment.project_id in per_project:
            project = sum(one.project_id == assignment.project_id for one in after)
            assert project <= per_project[assignment.project_id]
    taken = [(run.assignment, run.slot) for run in lives]
    new = [(one.action.assignment, one.slot) for one in decided.starts]
    assert not set(new) & set(taken)
    assert len(set(new)) == len(new)


def test_a_chat_starts_beside_its_agents_tasks_once_and_takes_none_of_their_places():
    """Who is at work can be written to; only the total and the provider's limit hold both."""
    chat = replace(action("a", "p"), assignment=Assignment("a", "p", Purpose.CHAT))
    talking = replace(live("a", "p"), assignment=chat.assignment)
    narrow = Limits(9, {"a": 1}, {"p": 1})
    assert started([action("a", "p"), chat], [], narrow) == [("a", "p", 0), ("a", "p", 0)]
    assert started([chat], [live("a", "p")], narrow) == [("a", "p", 0)]
    assert started([action("a", "p")], [talking], narrow) == [("a", "p", 0)]
    assert started([chat], [talking], narrow) == []
    assert started([chat], [live("b", "q")], Limits(1)) == []
    assert started([chat], [live("b", "q")], Limits(9, {}, {}, {"rehearsal": 0})) == []
