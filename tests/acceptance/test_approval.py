"""Tasks that need somebody's word before they begin or before their result counts. The real programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.house import House, house, script, until

WRONG = [
    {"call": {"tool": "get_my_task"}},
    {"write": {"path": "word.txt", "text": "wrong\n"}},
    {"report": {"result": "success", "summary": "wrote a word"}},
]


def waits_for_review(home: House, task_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        task = home.task(task_id)
        return task if task["wait_reason"] == "review" else None

    return until("its result waits", found)


def test_a_person_lets_a_task_begin_sends_its_result_back_and_lets_it_count(
    short_dir: Path,
) -> None:
    with house(short_dir) as home:
        home.ready()
        arguments = ("task", "add", "--project", "app", "--agent", "worker", "--title", "Write")
        flags = ("--needs-approval", "--review-by", "person", "--description", script(*WRONG))
        task = home.json(*arguments, *flags)
        assert (task["status"], task["approval"]) == ("backlog", "pending")
        (why,) = home.ask("explain_task", task_id=task["id"])["reasons"]
        assert (why["code"], why["do"]) == ("approval", f"task approve {task['id']}")
        assert "1 to begin, 0 results" in home.run("status").stdout
        assert home.runs(task["id"]) == []
        assert "is approved, and queued now" in home.run("task", "approve", task["id"]).stdout
        waiting = waits_for_review(home, task["id"])
        assert waiting["result"]["summary"] == "wrote a word"
        home.last(task["id"])
        refused = home.run("task", "reject", task["id"], check=False)
        assert "--reason" in refused.stderr
        home.run("task", "reject", task["id"], "--reason", "it must be the right word")
        home.last(task["id"], runs=2)
        again = waits_for_review(home, task["id"])
        assert (again["attempt"], again["review_rounds"]) == (1, 1)
        second = home.runs(task["id"])[1]
        assert "it must be the right word" in Path(second["log_path"]).read_text("utf-8")
        home.run("task", "approve", task["id"], "--reason", "good enough")
        done = home.task(task["id"])
        assert done["status"] == "succeeded"
        assert [(one["verdict"], one["by"], one["reason"]) for one in done["feedback"]] == [
            ("approved", "person", None),
            ("changes", "person", "it must be the right word"),
            ("approved", "person", "good enough"),
        ]
        late = home.run("task", "approve", task["id"], check=False)
        assert late.returncode == 6
        assert "waits for nobody's word" in late.stderr


def test_a_task_that_is_refused_never_runs_and_says_why(short_dir: Path) -> None:
    with house(short_dir) as home:
        home.ready()
        asks = {"request_task": {"title": "Paint it too", "description": script()}}
        ((tool, arguments),) = asks.items()
        first = home.add("Mend", script({"call": {"tool": tool, "arguments": arguments}}))
        home.finished(first["id"])
        wanted = next(
            one for one in home.ask("list_tasks")["tasks"] if one["title"] == "Paint it too"
        )
        assert (wanted["status"], wanted["approval"], wanted["agent_id"]) == (
            "backlog",
            "pending",
            "worker",
        )
        home.run("task", "reject", wanted["id"], "--reason", "no paint left")
        refused = home.task(wanted["id"])
        assert (refused["status"], refused["approval"]) == ("cancelled", "rejected")
        assert refused["feedback"][0]["reason"] == "no paint left"
        assert home.runs(wanted["id"]) == []


def test_another_agent_reviews_a_result_and_sends_it_back_until_it_is_right(
    short_dir: Path,
) -> None:
    with house(short_dir) as home:
        judge = {
            "provider": "rehearsal",
            "role": script({"judge": {"path": "word.txt", "holds": "right"}}),
        }
        home.write(
            agents={"worker": {"provider": "rehearsal"}, "judge": judge},
            projects=[{"id": "app", "path": str(home.repo), "agents": ["worker", "judge"]}],
        )
        home.ready()
        right = "if [ -e word.txt ]; then echo right > word.txt; else echo wrong > word.txt; fi"
        task = home.add(
            "Write",
            script({"run": {"argv": ["sh", "-c", right]}}, {"report": {"summary": "a word"}}),
            review_by="judge",
        )
        done = home.finished(task["id"])
        assert done["status"] == "succeeded", done
        assert [(one["verdict"], one["by"]) for one in done["feedback"]] == [
            ("changes", "agent:judge"),
            ("approved", "agent:judge"),
        ]
        assert "lacks 'right'" in done["feedback"][0]["reason"]
        judged = [one for one in home.ask("list_tasks")["tasks"] if one["reviews_id"] == task["id"]]
        assert len(judged) == 2
        for one in judged:
            assert home.finished(one["id"])["status"] == "succeeded"


def test_a_result_that_is_sent_back_too_often_waits_for_a_person(short_dir: Path) -> None:
    with house(short_dir) as home:
        never = {"provider": "rehearsal", "role": script({"judge": {"path": "none", "holds": "x"}})}
        home.write(
            agents={"worker": {"provider": "rehearsal"}, "judge": never},
            projects=[{"id": "app", "path": str(home.repo), "agents": ["worker", "judge"]}],
        )
        home.ready()
        task = home.add("Write", script(*WRONG), review_by="judge")
        until("a person is asked", lambda: home.task(task["id"])["review_by"] == "person")
        found = home.task(task["id"])
        assert (found["status"], found["wait_reason"], found["review_rounds"]) == (
            "waiting",
            "review",
            3,
        )
        assert [one["verdict"] for one in found["feedback"]] == ["changes"] * 4
        (why,) = home.ask("explain_task", task_id=task["id"])["reasons"]
        assert "waits for a person, sent back 3 times" in why["text"]
        home.run("task", "approve", task["id"])
        assert home.task(task["id"])["status"] == "succeeded"
