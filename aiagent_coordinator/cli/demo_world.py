"""What the demo plays with: two small repositories, three agents, six tasks, and the configuration."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire.process import run_bounded

SHOP, GUIDE = "shop", "guide"
ROBIN, KIM, MAYA = "robin", "kim", "maya"
#: -B leaves no caches behind.
_PYTHON = (sys.executable, "-B")
#: git answers such small questions within milliseconds.
_GIT_SECONDS = 30.0

_FILES: dict[str, dict[str, str]] = {
    SHOP: {
        "README.md": """\
# Shop

Prices are whole cents. `total` adds up an order; above 100.00 a discount of 10 % is given.

Test it with `python -m unittest`.
""",
        "prices.py": '''\
"""Prices of an order, in whole cents."""

DISCOUNT_FROM = 100_00


def total(prices: list[int]) -> int:
    """Add up an order and give the discount."""
    return sum(price * 9 // 10 if price > DISCOUNT_FROM else price for price in prices)
''',
        "test_prices.py": """\
import unittest

from prices import total


class Total(unittest.TestCase):
    def test_a_small_order_costs_the_sum(self):
        self.assertEqual(total([10_00, 20_00]), 30_00)


if __name__ == "__main__":
    unittest.main()
""",
        "discount.py": """\
from prices import total

assert total([60_00, 60_00]) == 108_00, "a large order of small things gets no discount"
""",
        ".gitignore": "__pycache__/\n",
    },
    GUIDE: {
        "README.md": "# Guide\n\nHow to use the shop. Every page begins with a heading.\n",
        "pages/prices.md": "# Prices\n\nPrices are in cents.\n",
        "check_pages.py": """\
import pathlib

for page in sorted(pathlib.Path("pages").glob("*.md")):
    assert page.read_text("utf-8").startswith("# "), f"{page} begins without a heading"
""",
    },
}
_FIXED = '''\
"""Prices of an order, in whole cents."""

DISCOUNT_FROM = 100_00


def total(prices: list[int]) -> int:
    """Add up an order and give the discount on the whole of it."""
    whole = sum(prices)
    return whole * 9 // 10 if whole > DISCOUNT_FROM else whole
'''
_RECEIPT = '''\
"""Receipts."""


def line(name: str, cents: int) -> str:
    """One line of a receipt."""
    return f"{name:<20}{cents / 100:>10.2f}"
'''
_CONFIG = """\
# The demo's configuration; every key is explained in docs/reference/settings.md.
state_dir: state

# Look every second although news come by themselves: the demo is short.
polling_interval: 1s

# A question without an answer after 5 seconds ends its run; its answer begins another.
ask:
  hold_seconds: 5

# Try again one second after a failure.
retry:
  backoff_seconds: [1]

# rehearsal is a scripted agent: no model, no account, no network.
agents:
  {robin}: {{provider: rehearsal}}
  {kim}: {{provider: rehearsal}}
  {maya}: {{provider: rehearsal}}

projects:
  - id: {shop}
    path: {shop}
    agents: [{robin}, {kim}]
    checks:
      - {shop_check}
  - id: {guide}
    path: {guide}
    agents: [{maya}, {kim}]
    checks:
      - {guide_check}
"""


@dataclass(frozen=True)
class World:
    """The demo's folder."""

    root: Path

    def repository(self, project: str) -> Path:
        """A git repository that is worked on."""
        return self.root / project

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


@dataclass(frozen=True)
class Story:
    """One task of the demo: what the board is told, and what the demo does about its question."""

    title: str
    project: str
    agent: str
    request: str
    attempts: Sequence[Sequence[Mapping[str, Any]]]
    checks: tuple[tuple[str, ...], ...] = ()
    #: Titles of the tasks that come first.
    after: tuple[str, ...] = ()
    answer: str | None = None
    #: Answered only when the run that asked is over.
    is_answered_late: bool = False
    priority: int = field(default=0)

    @property
    def description(self) -> str:
        """The request, and what the scripted agent does about it."""
        told = {"attempts": [{"steps": list(steps)} for steps in self.attempts]}
        return f"{self.request}\n\n```rehearsal\n{json.dumps(told, indent=2)}\n```\n"


def _done(summary: str) -> dict[str, str]:
    return {"do": "report", "result": "success", "summary": summary}


def _write(path: str, content: str) -> dict[str, str]:
    return {"do": "write", "path": path, "text": content}


def _ask(question: str, *options: str) -> dict[str, Any]:
    return {"do": "ask", "text": question, "options": list(options)}


DISCOUNT = "Give the discount on the whole order"
STORIES = (
    Story(
        "Say under which licence the guide stands",
        GUIDE,
        KIM,
        "The guide needs a licence page. Ask which licence it is.",
        [
            [
                _write("pages/licence.md", "# Licence\n\nTo be decided.\n"),
                _ask("Under which licence is the guide?", "CC BY 4.0", "CC0"),
                _write("pages/licence.md", "# Licence\n\nCC BY 4.0.\n"),
                _done("The licence page says CC BY 4.0."),
            ]
        ],
        answer="CC BY 4.0",
        is_answered_late=True,
        priority=1,
    ),
    Story(
        DISCOUNT,
        SHOP,
        ROBIN,
        "An order of many small things gets no discount, although it is above 100.00.\n"
        "Mend `prices.py` so that `discount.py` passes.",
        [
            [
                {"do": "progress", "value": 30, "message": "found it: it goes by single price"},
                _write("prices.py", _FIXED),
                {"do": "commit", "message": "Give the discount on the whole order"},
                _done("The discount now goes by the sum."),
            ]
        ],
        checks=((*_PYTHON, "discount.py"),),
    ),
    Story(
        "Greet the reader of the guide",
        GUIDE,
        MAYA,
        "The guide greets nobody. Ask how to greet.",
        [
            [
                _ask("How shall the guide greet?", "Hello", "Welcome"),
                _write("pages/welcome.md", "# Welcome\n\nGood to see you.\n"),
                _done("The guide says Welcome."),
            ]
        ],
        answer="Welcome",
    ),
    Story(
        "Explain the discount in the guide",
        GUIDE,
        MAYA,
        "Tell when the discount is given, on a page of its own.",
        [
            [
                _write("pages/discount.md", "Above 100.00 the whole order costs 10 % less.\n"),
                _done("Wrote the page, and forgot the heading."),
            ],
            [
                _write(
                    "pages/discount.md",
                    "# Discount\n\nAbove 100.00 the whole order costs 10 % less.\n",
                ),
                _done("Added the heading that the check wants."),
            ],
        ],
    ),
    Story(
        "Print a line of a receipt",
        SHOP,
        ROBIN,
        "Receipts come after the discount is right.",
        [[_write("receipt.py", _RECEIPT), _done("receipt.py formats one line.")]],
        after=(DISCOUNT,),
    ),
    Story(
        "List who works on the shop",
        SHOP,
        KIM,
        "Write AUTHORS.md.",
        [[_write("AUTHORS.md", "# Authors\n\n- Robin\n- Kim\n"), _done("Wrote AUTHORS.md.")]],
    ),
)


def make_world(root: Path) -> World:
    """Fill an empty folder.

    Raises:
        CoordinatorError: git is missing or fails.
    """
    world = World(root)
    for project, files in _FILES.items():
        folder = world.repository(project)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, "utf-8")
        _git(folder, "init", "--quiet", "--initial-branch=main")
        _git(folder, "add", "--all")
        _git(folder, "commit", "--quiet", f"--message=Begin the {project}")
    world.config.write_text(
        _CONFIG.format(
            shop=SHOP,
            guide=GUIDE,
            robin=ROBIN,
            kim=KIM,
            maya=MAYA,
            # JSON is YAML too, with every character quoted right
            shop_check=json.dumps((*_PYTHON, "-m", "unittest", "-q")),
            guide_check=json.dumps((*_PYTHON, "check_pages.py")),
        ),
        "utf-8",
    )
    return world


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
