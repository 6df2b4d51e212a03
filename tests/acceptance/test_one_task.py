"""One task through everything, by the real programs on a real repository."""

from __future__ import annotations

from pathlib import Path

from support.house import house, living, script, until
from support.repo import git


def test_a_task_becomes_a_verified_commit(short_dir: Path):
    """The main job: a task goes in, a commit with proof comes out, nothing is left behind."""
    with house(short_dir) as home:
        before = git(home.repo, "rev-parse", "HEAD")
        home.ready()
        task = home.add(
            "Add a greeting",
            script(
                {"write": {"path": "hello.txt", "text": "hello\n"}},
                {"report": {"result": "success", "summary": "wrote hello.txt"}},
            ),
            check="grep -q hello hello.txt",
        )
        done = home.finished(task["id"])
        assert done["status"] == "succeeded"
        (run,) = home.runs(task["id"])
        assert (run["outcome"], run["exit_code"], run["attempt"]) == ("succeeded", 0, 1)
        assert git(home.repo, "show", f"{run['commit']}:hello.txt") == "hello"
        assert git(home.repo, "rev-parse", run["branch"]) == run["commit"]
        trailers = git(home.repo, "log", "-1", "--format=%(trailers)", run["commit"])
        assert f"Task-Id: {task['id']}" in trailers
        assert f"Run-Id: {run['id']}" in trailers
        assert git(home.repo, "rev-parse", "HEAD") == before
        assert git(home.repo, "status", "--porcelain") == ""
        assert Path(run["log_path"]).is_file()


def test_a_failing_check_is_tried_again_with_the_failing_command(short_dir: Path):
    """The next attempt works on the first one's branch and is told what failed."""
    with house(short_dir) as home:
        home.ready()
        report = {"report": {"result": "success", "summary": "done"}}
        task = home.add(
            "Write the right word",
            script(
                attempts=[
                    [{"write": {"path": "word.txt", "text": "wrong\n"}}, report],
                    [{"write": {"path": "word.txt", "text": "right\n"}}, report],
                ]
            ),
            check="grep -q right word.txt",
        )
        done = home.finished(task["id"])
        assert (done["status"], done["attempt"]) == ("succeeded", 2)
        first, second = home.runs(task["id"])
        assert (first["outcome"], first["reason"]) == ("verify_failed", "verify_failed")
        assert second["outcome"] == "succeeded"
        assert first["branch"] == second["branch"]
        git(home.repo, "merge-base", "--is-ancestor", first["commit"], second["commit"])


def test_nothing_is_alive_after_stop_with_kill(short_dir: Path):
    """`stop --kill` ends the agents too and says so."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("Sleep", script({"sleep": {"seconds": 600}}))
        until("the run runs", lambda: [r for r in home.runs(task["id"]) if r["phase"] == "running"])
        home.run("stop", "--kill")
        until("everything is gone", lambda: not living(home))


def test_the_minimal_example_runs_as_it_stands(short_dir: Path):
    """What the README shows first works as it is written."""
    example = Path(__file__).parents[2] / "examples" / "minimal" / "coordinator.yaml"
    with house(short_dir) as home:
        home.config.write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
        # the example works on its own folder: make it a repository
        git(short_dir, "init", "-q", "-b", "main")
        git(short_dir, "add", "coordinator.yaml")
        git(short_dir, "commit", "-q", "-m", "first")
        home.start()
        until("it answers", lambda: home.run("status", check=False).returncode == 0)
        told = home.json("status")
        home.place = Path(told["state_dir"]), Path(told["socket"])
        task = home.add("Try it", agent="robin", project="mine")
        done = home.finished(task["id"])
        assert done["status"] == "succeeded"
        (run,) = home.runs(task["id"])
        assert git(short_dir, "rev-parse", run["branch"]) == run["commit"]
