"""A budget really stops: before a start, while a run goes on, and at its end; one that nobody could watch is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.house import House, house, until
from support.talker import Spender


def settle(home: House, spender: Spender, **settings: Any) -> None:
    home.write(
        ai_providers={"spender": {"like": "claude", "cli_command": str(spender.path)}},
        agents={"worker": {"provider": "spender", **settings.pop("worker", {})}},
        projects=[{"id": "app", "path": str(home.repo)}],
        **settings,
    )


def refused(home: House, **settings: Any) -> str:
    """What a start says that is refused."""
    home.write(**settings)
    done = home.run("serve", check=False)
    assert done.returncode == 3, done.stderr
    checked = home.run("config", "validate", check=False)
    assert checked.returncode == 3
    assert "would never be reached" in checked.stderr
    return done.stderr


def test_a_budget_that_nobody_could_watch_is_refused_at_start(short_dir: Path):
    with house(short_dir) as home:
        home.write(
            ai_providers={"mute": {"like": "command", "cli_command": "true"}},
            agents={"worker": {"provider": "mute"}},
        )
        said = refused(home, budgets={"day": "50k"})
        assert "budgets.day: 50k tokens would never be reached" in said
        assert "provider mute does not tell what its runs use (agent worker)" in said


def test_money_without_a_price_is_refused_and_with_one_it_is_an_estimate(short_dir: Path):
    with house(short_dir) as home:
        home.write(
            ai_providers={"poor": {"like": "codex", "cli_command": "true"}},
            agents={"worker": {"provider": "poor", "model": "big-1", "budgets": {"total": "$2"}}},
        )
        said = refused(home)
        assert "agents.worker.budgets.total: $2.00 would never be reached" in said
        assert "`prices` has none for big-1" in said
        home.write(prices={"big-*": {"input": 2, "output": 8}})
        home.ready()
        assert home.run("task", "add", "--project", "app", "--title", "x", "--budget", "x",
                        check=False).returncode == 2  # fmt: skip
        # a file that would make it inert is not taken up either
        home.write(prices={})
        until("it is refused", lambda: home.logged("config.refused"))
        home.down()


def test_a_budget_of_a_day_is_looked_at_before_each_claim(short_dir: Path):
    spender = Spender(short_dir)
    with house(short_dir) as home:
        settle(home, spender, budgets={"day": [100, "$9"]})
        home.ready()
        spender.uses([70, 40], cost=0.5)
        task = home.add("one")["id"]
        run = home.last(task)
        assert run["warnings"] is None or "budget_day_tokens" in run["warnings"]
        why = home.run("explain", task).stdout
        assert "budget of a day: 110 tokens of 100 tokens used" in why
        assert "parked until" in why
        assert home.task(task)["status"] == "queued"
        # a person may raise it in the file, and it counts at once
        home.write(budgets={"day": [1000, "$9"]})
        home.last(task, 2)
        home.down()


def test_a_task_with_a_budget_of_its_own_waits_for_a_person_when_it_is_used_up(short_dir: Path):
    spender = Spender(short_dir)
    with house(short_dir) as home:
        settle(home, spender)
        home.ready()
        spender.uses([10], cost=1.5)
        task = home.add("one", budget="$1")["id"]
        home.last(task)
        stands = home.task(task)
        assert (stands["status"], stands["status_reason"]) == ("waiting", "budget")
        assert stands["question"]["text"].startswith("budget of a task: $1.50 of $1.00 used")
        home.run("task", "answer", task, "continue")
        home.last(task, 2)
        assert home.task(task)["status"] == "waiting"
        home.run("task", "answer", task, "cancel")
        assert home.task(task)["status"] == "cancelled"
        home.down()


def test_a_policy_of_stop_fails_the_task_whose_run_took_too_much(short_dir: Path):
    spender = Spender(short_dir)
    with house(short_dir) as home:
        settle(home, spender, worker={"budgets": {"run": 50, "when_reached": "stop"}})
        home.ready()
        spender.uses([60])
        task = home.add("one")["id"]
        home.last(task)
        stands = home.task(task)
        assert (stands["status"], stands["status_reason"]) == ("failed", "budget")
        home.down()


def test_a_run_that_reaches_its_budget_is_stopped_while_it_goes_on(short_dir: Path):
    spender = Spender(short_dir)
    with house(short_dir) as home:
        settle(home, spender, worker={"budgets": {"run": 50, "when_reached": "stop"}})
        home.ready()
        spender.uses([30, 40], stays=True)
        task = home.add("one")["id"]
        run = home.last(task)
        # it would have stayed for ever
        assert not (short_dir / "leave").exists()
        assert (run["reason"], run["stop_reason"]) == ("budget", "budget")
        words = "budget of a run of agent worker: 70 tokens of 50 tokens used"
        assert run["warnings"]["budget_run_agent_tokens"] == words
        stands = home.task(task)
        assert (stands["status"], stands["status_reason"], stands["attempt"]) == (
            "failed",
            "budget",
            1,
        )
        home.down()


def test_what_is_parked_by_a_budget_in_mid_stream_goes_on_when_it_is_raised(short_dir: Path):
    spender = Spender(short_dir)
    with house(short_dir) as home:
        settle(home, spender, budgets={"day": 50})
        home.ready()
        spender.uses([60], stays=True)
        task = home.add("one")["id"]
        run = home.last(task)
        assert run["reason"] == "budget"
        stands = home.task(task)
        assert (stands["status"], stands["attempt"]) == ("queued", 1)
        assert "parked until" in home.run("explain", task).stdout
        assert len(home.runs()) == 1
        spender.uses([10])
        home.write(budgets={"day": "1M"})
        home.last(task, 2)
        home.down()
