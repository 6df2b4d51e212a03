"""Hours in a storm: what the processes hold does not grow, and nothing is left of what they did.

`AIAGENT_SOAK_SECONDS=900 pytest -s tests/faults/test_soak.py` is the long form; it prints a table.
`AIAGENT_SOAK_SEED` chooses another storm.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.coordinator.sweep import REAP_SECONDS
from support.storm import AGENTS, Storm, storm

SECONDS = float(os.environ.get("AIAGENT_SOAK_SECONDS", "30"))
SEED = int(os.environ.get("AIAGENT_SOAK_SEED", "1"))
#: So often the processes are measured.
SAMPLE_SECONDS = 0.2
#: How much more of each a process may hold at the end: runs in flight make it go up and down.
ROOM = {"descriptors": 12.0, "threads": 8.0, "MiB": 8.0}
#: Beside it the memory may grow by so much of itself an hour.
MEMORY_PER_HOUR = 0.10
#: A child that has ended is taken note of at once, and within a second or so where its run waits for the server.
ZOMBIE_SECONDS = 10 * REAP_SECONDS
#: What happens, and how often it is chosen beside the others.
WEATHER = {
    "add": 10,
    "let go": 8,
    "fail": 3,
    "stop": 1,
    "cancel": 1,
    "kill shim": 2,
    "reload": 1,
    "pause": 1,
    "kill": 1,
}


@dataclass
class Watched:
    """One process that lives through its part of the storm, and what it held when."""

    role: str
    pid: int
    samples: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    def look(self) -> None:
        """Measure it now."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
        )
        self.samples.append(
            {
                "descriptors": len(list(Path(f"/proc/{self.pid}/fd").iterdir())),
                "threads": int(status["Threads"]),
                "MiB": int(status["RssAnon"].split()[0]) / 1024,
            }
        )

    def held(self, begin: float, end: float) -> dict[str, float]:
        """What it held between two parts of its life, 0 to 1: the median of each."""
        count = len(self.samples)
        some = self.samples[int(begin * count) : max(int(begin * count) + 1, int(end * count))]
        return {name: statistics.median(one[name] for one in some) for name in ROOM}


class Soak:
    """A storm that goes on for a time, in parts in which one process or the other stays alive."""

    def __init__(self, weather: Storm) -> None:
        self.storm = weather
        self.chance = random.Random(SEED)
        self.done: Counter[str] = Counter()
        self.hanging: set[str] = set()
        self._zombies: dict[int, float] = {}

    def part(self, seconds: float, alive: str | None) -> Watched | None:
        """Let things happen for so long; the process of the role `alive` is never killed."""
        if alive is not None:
            self.storm.start(alive)
        watched = Watched(alive, self.storm.up[alive].pid) if alive else None
        names, weights = list(WEATHER), list(WEATHER.values())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            what = self.chance.choices(names, weights)[0]
            self.do(what, alive)
            self.storm.said.append(what)
            until = time.monotonic() + self.chance.uniform(0, 0.5)
            while time.monotonic() < until:
                time.sleep(SAMPLE_SECONDS)
                if watched is not None:
                    watched.look()
                self.look_for_zombies()
            self.storm.check()
            self.storm.close_gates()
        return watched

    def do(self, what: str, alive: str | None) -> None:
        """One thing of the weather."""
        tasks = self.storm.open_tasks()
        hanging = self.hanging.intersection(tasks)
        tasks = [one for one in tasks if one not in hanging]
        runs = self.storm.live_runs()
        other = [role for role in ("serve", "coordinate") if role != alive]
        match what:
            case "add" if len(tasks) < 12:
                task = self.storm.add(self.chance.choice(sorted(AGENTS)))
                # some never end by themselves: their time runs out
                if task is not None and len(hanging) < 2 and self.chance.random() < 0.1:
                    self.hanging.add(task)
            case "let go" | "fail" if tasks:
                self.storm.open_gate(self.chance.choice(tasks), 3 if what == "fail" else 0)
            case "stop" if runs:
                self.storm.stop_run(self.chance.choice(runs))
            case "cancel" if tasks:
                self.storm.cancel(self.chance.choice(tasks))
            case "kill shim" if runs:
                self.storm.kill_shim(self.chance.choice(runs))
            case "reload":
                self.storm.reload(self.chance.randint(2, 4), broken=self.chance.random() < 0.3)
            case "pause":
                role = self.chance.choice(["serve", "coordinate"])
                self.storm.pause(role)
                time.sleep(self.chance.uniform(0.1, 1.5))
                self.storm.go_on(role)
            case "kill":
                role = self.chance.choice(other)
                ends = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
                self.storm.end(role, self.chance.choice(ends))
                time.sleep(self.chance.uniform(0, 1.0))
                self.storm.start(role)
            case _:
                return
        self.done[what] += 1

    def look_for_zombies(self) -> None:
        """A child of ours that has ended does not stay."""
        now = time.monotonic()
        found = set(zombies([process.pid for process in self.storm.up.values()]))
        self._zombies = {pid: self._zombies.get(pid, now) for pid in found}
        old = [pid for pid, since in self._zombies.items() if now - since > ZOMBIE_SECONDS]
        assert not old, f"nobody took note of the end of {[stat_of(pid) for pid in old]}"


def stat_of(pid: int) -> str:
    """What the kernel says of a process: number, name, state, parent and more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text()[:100]
    except OSError:
        return f"{pid}, gone by now"


def zombies(parents: list[int]) -> Iterator[int]:
    """Children of these that ended and that nobody took note of."""
    for parent in parents:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                children = tasks.read_text().split()
            except OSError:
                continue
            for child in children:
                if stat_of(int(child)).rpartition(")")[2].split()[:1] == ["Z"]:
                    yield int(child)


def check_flat(watched: Watched, seconds: float) -> list[str]:
    """Compare what a process held when it was warm with what it held at the end; returns lines of a table."""
    early, late = watched.held(0.25, 0.5), watched.held(0.75, 1.0)
    lines: list[str] = []
    growing = {"MiB": MEMORY_PER_HOUR * seconds / 3600}
    for name, at_once in ROOM.items():
        room = at_once + early[name] * growing.get(name, 0)
        lines.append(
            f"{watched.role:12}{name:13}{early[name]:8.1f}{late[name]:8.1f}{room:+8.1f} allowed"
        )
        assert late[name] - early[name] <= room, (lines, watched.samples[-5:])
    return lines


@pytest.mark.alone
@pytest.mark.timeout(SECONDS * 2 + 600)
def test_in_a_storm_that_goes_on_nothing_grows_and_nothing_is_left(
    short_dir: Path, capsys: pytest.CaptureFixture[str]
):
    """Each task ends once, descriptors, threads and memory stay as they were, and the folders are empty."""
    settings: dict[str, Any] = {"run_timeout": "8s", "retention": {"run_age": "1s"}}
    with storm(short_dir, None, **settings) as weather:
        soak = Soak(weather)
        try:
            soak.part(SECONDS * 0.2, None)
            coordinator = soak.part(SECONDS * 0.45, "coordinate")
            server = soak.part(SECONDS * 0.35, "serve")
            weather.calm_down(300)
            weather.check_places()
            weather.check_ends()
            weather.check_folders()
        except BaseException as error:
            error.add_note("\n".join([*weather.said[-40:], weather.home.log_text()]))
            raise
        assert coordinator is not None
        assert server is not None
        lines = check_flat(coordinator, SECONDS * 0.45) + check_flat(server, SECONDS * 0.35)
        runs = weather.rows("SELECT outcome, count(*) FROM run GROUP BY outcome ORDER BY outcome")
        tasks = weather.rows("SELECT status, count(*) FROM task GROUP BY status ORDER BY status")
        time.sleep(1.1)  # what is to go is a second old
        weather.home.run("gc")
        kept = [one for one in (weather.home.state / "run").iterdir() if (one / "lock").exists()]
        assert not kept
        weather.go_home()
    with capsys.disabled():
        happened = ", ".join(f"{name} {count}" for name, count in sorted(soak.done.items()))
        print(f"\n{SECONDS:.0f} s, seed {SEED}: {happened}")
        print("runs:", dict(runs), "tasks:", dict(tasks))
        print(f"{'':12}{'':13}{'warm':>8}{'end':>8}")
        print("\n".join(lines))
        print("0 zombies, 0 processes and 0 folders left, every run and task ended once")
