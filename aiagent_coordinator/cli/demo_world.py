"""What the demo plays with: a small repository with a real bug, one task, and the configuration."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire.process import run_bounded

PROJECT = "shop"
AGENT = "robin"
TITLE = "Give the discount on the whole order"
#: What proves the result; -B leaves no caches behind.
CHECK = (sys.executable, "-B", "-m", "unittest", "-q")
#: git answers such small questions within milliseconds.
_GIT_SECONDS = 30.0

_README = """\
# Shop

Prices are whole cents. `total` adds up an order; above 100.00 a discount of 10 % is given.

Test it with `python -m unittest`.
"""
_BROKEN = '''\
"""Prices of an order, in whole cents."""

DISCOUNT_FROM = 100_00


def total(prices: list[int]) -> int:
    """Add up an order and give the discount."""
    return sum(price * 9 // 10 if price > DISCOUNT_FROM else price for price in prices)
'''
_FIXED = '''\
"""Prices of an order, in whole cents."""

DISCOUNT_FROM = 100_00


def total(prices: list[int]) -> int:
    """Add up an order and give the discount on the whole of it."""
    whole = sum(prices)
    return whole * 9 // 10 if whole > DISCOUNT_FROM else whole
'''
_TEST = """\
import unittest

from prices import total


class Total(unittest.TestCase):
    def test_a_small_order_costs_the_sum(self):
        self.assertEqual(total([10_00, 20_00]), 30_00)

    def test_a_large_order_of_small_things_gets_the_discount(self):
        self.assertEqual(total([60_00, 60_00]), 108_00)


if __name__ == "__main__":
    unittest.main()
"""
_CONFIG = """\
# The demo's configuration; every key is explained in docs/reference/settings.md.
state_dir: state
polling_interval: 1s

agents:
  {agent}:
    provider: rehearsal   # a scripted agent: no model, no account, no network

projects:
  - id: {project}
    path: {project}
    agents: [{agent}]
    checks:
      - {check}
"""


@dataclass(frozen=True)
class World:
    """The demo's folder."""

    root: Path

    @property
    def repository(self) -> Path:
        """The git repository that is worked on."""
        return self.root / PROJECT

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "coordinator.yaml"

    @property
    def state(self) -> Path:
        """The state directory, as the configuration names it."""
        return self.root / "state"

    @property
    def log(self) -> Path:
        """What server and loop print."""
        return self.root / "coordinator.log"


def make_world(root: Path) -> World:
    """Fill an empty folder.

    Raises:
        CoordinatorError: git is missing or fails.
    """
    world = World(root)
    world.repository.mkdir()
    for name, content in (
        ("README.md", _README),
        ("prices.py", _BROKEN),
        ("test_prices.py", _TEST),
        (".gitignore", "__pycache__/\n"),
    ):
        (world.repository / name).write_text(content, "utf-8")
    _git(world.repository, "init", "--quiet", "--initial-branch=main")
    _git(world.repository, "add", "--all")
    _git(world.repository, "commit", "--quiet", "--message=Add the shop's prices")
    # JSON is YAML too, with every character quoted right
    check = json.dumps(CHECK)
    world.config.write_text(_CONFIG.format(agent=AGENT, project=PROJECT, check=check), "utf-8")
    return world


def description() -> str:
    """What the task says: the request, and what the scripted agent does about it."""
    steps = [
        {"do": "progress", "value": 30, "message": "found it: the discount goes by single price"},
        {"do": "write", "path": "prices.py", "text": _FIXED},
        {"do": "commit", "message": "Give the discount on the whole order"},
        {"do": "report", "result": "success", "summary": "The discount now goes by the sum."},
    ]
    script = json.dumps({"steps": steps}, indent=2)
    return (
        "An order of many small things gets no discount, although it is above 100.00.\n"
        f"Mend `prices.py` so that the tests pass.\n\n```rehearsal\n{script}\n```\n"
    )


def _git(folder: Path, *words: str) -> None:
    # the user's own configuration (hooks, signing, templates) stays out of it
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    identity = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost")
    try:
        done = run_bounded(
            ("git", *identity, *words),
            cwd=str(folder),
            env=environment,
            timeout_seconds=_GIT_SECONDS,
        )
    except FileNotFoundError as error:
        raise CoordinatorError(text("demo.no_git")) from error
    if done.returncode != 0:
        output = done.stderr.decode("utf-8", "replace").strip()
        raise CoordinatorError(text("demo.git_failed", command=words[0], output=output))
