"""What a start costs: ten thousand old run directories, and 200 runs that are alive.

    python benchmarks/recovery.py [--old 10000] [--alive 200]

The look at old directories stands beside a bare listing of them with one `stat` each; the adoption
beside the look at 200 locks alone. Goals: under 2 s each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from aiagent_coordinator.coordinator.recover import look  # noqa: E402
from aiagent_coordinator.coordinator.retention import ended_runs, remove  # noqa: E402
from aiagent_coordinator.executors.inspection import inspect  # noqa: E402
from aiagent_coordinator.ids import new_run_id  # noqa: E402
from aiagent_coordinator.pipeline.copies import write_copy  # noqa: E402
from aiagent_coordinator.pipeline.run import RunRecord, Stage  # noqa: E402
from support.fleet import fleet, kill, notes  # noqa: E402 - the path is set above
from support.house import until  # noqa: E402

GOAL_SECONDS = 2.0


def make_old(runs: Path, count: int) -> None:
    """Directories as ended runs leave them."""
    runs.mkdir()
    for _ in range(count):
        folder = runs / new_run_id()
        folder.mkdir()
        for name, content in (("format", "1\n"), ("lock", "{}"), ("out", "x" * 500), ("err", "")):
            (folder / name).write_text(content, encoding="ascii")
        (folder / "exit").write_text('{"v": 1}'.ljust(4095) + "\n", encoding="ascii")
        record = RunRecord(folder.name, "a", "p", "task", 0, "rehearsal", Stage.DONE)
        write_copy(folder, record)


def timed(what: str, seconds: float, floor: float) -> None:
    """One line: the value, the floor, the ratio, and whether the goal is reached."""
    verdict = "reached" if seconds < GOAL_SECONDS else "missed"
    print(
        f"{what:<44} {seconds * 1000:8.1f} ms   floor {floor * 1000:7.1f} ms"
        f"   ratio {seconds / floor:6.2f}   goal < 2 s {verdict}"
    )


def old_directories(root: Path, count: int) -> None:
    """A start's first look, a later pass, and a collection that finds nothing to remove."""
    runs = root / "run"
    make_old(runs, count)
    began = time.perf_counter()
    for folder in runs.iterdir():
        (folder / "record.done").stat()
    floor = time.perf_counter() - began
    began = time.perf_counter()
    found = look(runs, [], set(), set())
    timed(f"start with {count} old run directories", time.perf_counter() - began, floor)
    began = time.perf_counter()
    look(runs, [], set(), found.settled)
    timed("  the next pass", time.perf_counter() - began, floor)
    began = time.perf_counter()
    ended = ended_runs(runs, time.time())
    print(
        f"{'  looking for what may go, in the background':<44} {(time.perf_counter() - began) * 1000:8.1f} ms"
    )
    assert len(ended) == count
    began = time.perf_counter()
    gone = remove(runs, ended[: count // 10])
    each = (time.perf_counter() - began) / len(gone)
    print(f"{'  removing one, in the background':<44} {each * 1000:8.1f} ms")


def adoption(root: Path, count: int) -> None:
    """From the start of the new process, and from the moment it can begin, to the last run adopted."""
    with fleet(root, count) as ships:
        numbers = list(range(count))
        process = ships.coordinate()
        for number in numbers:
            ships.add(number)
        ships.at_gate(numbers)
        kill(process)
        began = time.perf_counter()
        for folder in (ships.home.state / "run").iterdir():
            assert inspect(folder).shim
        floor = time.perf_counter() - began
        began = time.perf_counter()
        process = ships.coordinate()
        until("all are adopted", lambda: len(notes(ships.home, "run.adopted")) == count, 120)
        whole = time.perf_counter() - began
        stamps = [note["ts"] for note in notes(ships.home, "run.adopted")]
        first, last = (time_of(stamps[0]), time_of(stamps[-1]))
        timed(f"adoption of {count} runs, first to last", last - first, floor)
        print(f"{'  with the start of the process':<44} {whole * 1000:8.1f} ms")
        for number in numbers:
            ships.open_gate(number)
        ships.over(numbers)
        ships.stop(process)


def time_of(stamp: str) -> float:
    """Seconds since 1970 of an instant of the log."""
    return datetime.fromisoformat(stamp).timestamp()


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=int, default=10_000)
    parser.add_argument("--alive", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aab-") as name:
        old_directories(Path(name), chosen.old)
    with tempfile.TemporaryDirectory(prefix="aab-") as name:
        adoption(Path(name) / "f", chosen.alive)


if __name__ == "__main__":
    main()
