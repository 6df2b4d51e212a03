"""What supervision adds to the real CLIs: time to the first request to the model, and memory.

    AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis python benchmarks/real_clis.py [--rounds 5]

Each CLI runs by turns bare, with a server of tools and its prompt on standard input as its user would
start it, and under supervision, both against a scripted model on this machine that never answers: so both
sit there after their first request, and their memory is read. Prints ratios; absolute times are noise.
Memory is PSS, in which shared pages count once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from support.clis import WANTED, Model, bare_command, model, programs, working  # noqa: E402
from support.house import House, until  # noqa: E402 - the path is set above

#: Programs of ours beside a CLI.
OURS = {"shim.py", "bridge.py"}
#: Until a CLI that waits takes no more memory.
SETTLE_SECONDS = 2.0


@dataclass
class Seen:
    """What was measured of one CLI: seconds and MiB, a value a round."""

    #: Bare: from its start to its first request.
    bare: list[float] = field(default_factory=list[float])
    #: Supervised: the same, and from the claim of its task.
    started: list[float] = field(default_factory=list[float])
    claimed: list[float] = field(default_factory=list[float])
    bare_memory: list[float] = field(default_factory=list[float])
    our_memory: list[float] = field(default_factory=list[float])


def memory(pid: int) -> tuple[float, float]:
    """MiB of a process and all below it, and what of that our shim and bridge have."""
    whole = ours = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            size = float(process.memory_full_info().pss) / 2**20
            names = {Path(word).name for word in process.cmdline()}
        except psutil.Error:
            continue
        whole += size
        ours += size if names.intersection(OURS) else 0
    return whole, ours


def asked(served: Model, after: float) -> float:
    """When the model was first asked to answer after a moment, in seconds of the epoch."""

    def found() -> list[float]:
        return [one["at"] for one in served.requests() if one.get("fault") and one["at"] > after]

    return until("the model is asked", found)[0]


def by_hand(name: str, clis: Path, home: House, served: Model, seen: Seen) -> None:
    """One bare run."""
    with tempfile.TemporaryDirectory(prefix="aac-") as folder:
        by_hand = bare_command(name, Path(folder), home, clis)
        began = time.time()
        process = subprocess.Popen(
            by_hand.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=by_hand.folder,
            env=by_hand.env,
            start_new_session=True,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(b"Say that you are done.")
            process.stdin.close()
            seen.bare.append(asked(served, began) - began)
            time.sleep(SETTLE_SECONDS)
            seen.bare_memory.append(memory(process.pid)[0])
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def supervised(home: House, served: Model, seen: Seen) -> None:
    """One run of ours."""
    before = time.time()
    task_id = home.add("Measure", "Say that you are done.", max_attempts="1")["id"]
    first = asked(served, before)
    run = home.running(task_id)
    folder = home.state / "run" / run["id"]
    started = json.loads((folder / "started").read_text("utf-8"))["at_ns"] / 1e9
    seen.started.append(first - started)
    seen.claimed.append(first - datetime.fromisoformat(run["created_at"]).timestamp())
    time.sleep(SETTLE_SECONDS)
    seen.our_memory.append(memory(json.loads((folder / "lock").read_text("utf-8"))["pid"])[1])
    home.run("task", "cancel", task_id)
    home.over(run["id"])


def measure(name: str, clis: Path, rounds: int) -> Seen:
    """All rounds of one CLI; the first pair, which fills caches, does not count."""
    seen = Seen()
    with tempfile.TemporaryDirectory(prefix="aac-") as name_of_folder:
        folder = Path(name_of_folder)
        with (
            model(folder, "--fault", "hang") as served,
            working(folder, name, clis, served) as home,
        ):
            for number in range(rounds + 1):
                by_hand(name, clis, home, served, seen)
                supervised(home, served, seen)
                if number == 0:
                    seen = Seen()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    middle = statistics.median
    print(
        "| CLI | bare to first request | started by us, ratio | from the claim, ratio | bare | ours beside it |"
    )
    print("|---|---|---|---|---|---|")
    for clis in programs():
        for name in WANTED:
            seen = measure(name, clis, rounds)
            bare, memory_of = middle(seen.bare), middle(seen.bare_memory)
            print(
                f"| {name} | {bare:.2f} s | {middle(seen.started) / bare:.2f} "
                f"| {middle(seen.claimed) / bare:.2f} | {memory_of:.0f} MiB "
                f"| {middle(seen.our_memory):.1f} MiB, {middle(seen.our_memory) / memory_of:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
