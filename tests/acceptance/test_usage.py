"""What runs used, as their programs count it: kept with the run, and added up by a command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from support.house import House, house

#: Speaks as claude does, and ends without a report.
TELLER = """\
#!{python} -S
import json
print(json.dumps({{"type": "system", "subtype": "init", "session_id": "s-1", "model": "wise-1"}}))
print("no JSON, but of usage")
print(json.dumps({{"type": "result", "total_cost_usd": 0.125,
    "usage": {{"input_tokens": 1200, "output_tokens": 34, "cache_read_input_tokens": 56}}}}))
"""


#: The same, of which a second model did a part.
TWO = TELLER.replace(
    '"total_cost_usd"',
    """"modelUsage": {{
        "wise-1": {{"inputTokens": 1000, "outputTokens": 30, "cacheReadInputTokens": 50,
                   "cacheCreationInputTokens": 6, "costUSD": 0.12}},
        "quick-1": {{"inputTokens": 200, "outputTokens": 4, "costUSD": 0.005}}}},
    "total_cost_usd\"""",
)


def ended(home: House, title: str, agent: str) -> str:
    """A run of the agent that is over: its id."""
    task = home.add(title, agent=agent, max_attempts="1")["id"]
    return str(home.last(task)["id"])


def test_what_a_program_says_it_used_is_with_its_run_and_adds_up(short_dir: Path):
    program = short_dir / "teller"
    program.write_text(TELLER.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    with house(short_dir) as home:
        home.write(
            ai_providers={
                "teller": {"like": "claude", "cli_command": str(program)},
                "mute": {"like": "command", "cli_command": "true"},
            },
            agents={"worker": {"provider": "teller"}, "quiet": {"provider": "mute"}},
            projects=[{"id": "app", "path": str(home.repo), "max_concurrent": 1}],
        )
        home.ready()
        assert "No run has ended" in home.run("usage").stderr
        run = ended(home, "one", "worker")
        ended(home, "two", "worker")
        ended(home, "three", "quiet")
        used = {"in": 1200, "out": 34, "cache": 56, "cost": 0.125, "model": "wise-1"}
        shown = home.json("run", "show", run)
        assert shown["usage"] == used
        assert shown["summary"]["usage"] == used
        quiet, worker = home.json("usage")["usage"]
        assert quiet == {
            "key": "quiet",
            "runs": 1,
            "silent": 1,
            "in": 0,
            "out": 0,
            "cache": 0,
            "cost": None,
            "estimated": 0.0,
        }
        doubled = {"in": 2400, "out": 68, "cache": 112, "cost": 0.25, "estimated": 0.0}
        assert worker == {"key": "worker", "runs": 2, "silent": 0, **doubled}
        (app,) = home.json("usage", "--by", "project", "--project", "app", "--days", "1")["usage"]
        assert (app["key"], app["runs"], app["cost"]) == ("app", 3, 0.25)
        table = home.run("usage", "--by", "provider")
        assert "$0.2500" in table.stdout
        assert "1 of the runs did not say" in table.stderr
        wrong = home.run("usage", "--project", "nope", check=False)
        assert wrong.returncode == 5, wrong.stderr
        assert json.loads(home.run("usage", "--by", "day", "--json").stdout)["by"] == "day"
        home.down()


def test_what_was_used_is_counted_by_the_models_that_the_program_named(short_dir: Path):
    agents = {
        "worker": {"provider": "two", "model": "wise"},
        "one": {"provider": "one", "model": "wise"},
    }
    with house(short_dir) as home:
        for name, text in (("one", TELLER), ("two", TWO)):
            program = short_dir / name
            program.write_text(text.format(python=sys.executable), encoding="utf-8")
            program.chmod(0o755)
        home.write(
            ai_providers={
                name: {"like": "claude", "cli_command": str(short_dir / name)}
                for name in ("one", "two")
            }
            | {"mute": {"like": "command", "cli_command": "true"}},
            agents={**agents, "quiet": {"provider": "mute", "model": "asked-for"}},
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        for agent in ("worker", "one", "quiet"):
            ended(home, f"of {agent}", agent)
        found = {one.pop("key"): one for one in home.json("usage", "--by", "model")["usage"]}
        assert {
            key: (one["runs"], one["in"], one["cache"], one["cost"]) for key, one in found.items()
        } == {
            "mute/asked-for": (1, 0, 0, None),
            "one/wise-1": (1, 1200, 56, 0.125),
            "two/quick-1": (1, 200, 0, 0.005),
            "two/wise-1": (1, 1000, 56, 0.12),
        }
        assert "two/quick-1" in home.run("usage", "--by", "model").stdout
        home.down()
