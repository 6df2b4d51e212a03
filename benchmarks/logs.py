"""What capturing a log costs, and what finding the error in a large one does.

    python benchmarks/logs.py [--lines 400000] [--rounds 8]

In turn in one run: a C program that writes lines of 100 bytes to a file by itself, and the same program
as an agent under the coordinator, unwatched. Goals: at least 0.95 of the speed, at most 50 ns of the
coordinator's processor time per line, and 5 ms for the error in a log of 1 GiB. Needs gcc.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from aiagent_coordinator.logs.tail import read_tail  # noqa: E402
from aiagent_coordinator.providers.catalog import load_catalog  # noqa: E402
from aiagent_coordinator.providers.diagnosis import diagnose  # noqa: E402
from support.fleet import Fleet, fleet  # noqa: E402 - the path is set above
from support.house import until  # noqa: E402

#: Exit records of runs before the one that is measured.
SEEN: set[Path] = set()
GIB = 1024**3
#: As much of each stream as a run's end is explained from.
TAIL_BYTES = 64 * 1024


def alone(writer: Path, folder: Path, lines: int) -> float:
    """Nanoseconds per line when the program writes to a file itself."""
    with (folder / "alone").open("wb") as out:
        done = subprocess.run(
            [str(writer), str(lines)], stdout=out, stderr=subprocess.PIPE, check=True
        )
    (folder / "alone").unlink()
    return int(done.stderr) / lines


def captured(ships: Fleet, number: int, pid: int, lines: int) -> tuple[float, float, float]:
    """A run that writes so many lines.

    Returns:
        Nanoseconds per line; seconds of the coordinator's processor time until the program had
        ended, and after that, when the readable log is made of all it said.
    """
    before = cpu_seconds(pid)
    ships.add(number)
    until(
        "it has ended",
        lambda: [run for run in ships.home.state.glob("run/*/exit") if run not in SEEN],
    )
    while_it_ran = cpu_seconds(pid) - before
    SEEN.update(ships.home.state.glob("run/*/exit"))
    ships.over([number])
    (run,) = ships.runs(number)
    folder = ships.run_dir(run)
    assert (folder / "out").stat().st_size == lines * 100
    took = int((folder / "err").read_bytes()) / max(lines, 1)
    return took, while_it_ran, cpu_seconds(pid) - before - while_it_ran


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, in the kernel's own resolution."""
    return time.clock_gettime((~pid << 3) | 2)


def capture(root: Path, lines: int, rounds: int) -> None:
    """Both ways in turn; the coordinator's own work for a run is taken off by a run without output."""
    writer = root / "writer"
    subprocess.run(["gcc", "-O2", "-o", str(writer), str(HERE / "writer.c")], check=True)
    with fleet(root / "f", 2 * rounds) as ships:
        process = ships.coordinate()
        mine: list[float] = []
        floor: list[float] = []
        running: list[float] = []
        after: list[float] = []
        for number in range(0, 2 * rounds, 2):
            floor.append(alone(writer, ships.project(number), lines))
            (ships.project(number) / "do.sh").write_text(f"exec {writer} {lines}", encoding="ascii")
            (ships.project(number + 1) / "do.sh").write_text(f"exec {writer} 0", encoding="ascii")
            took, ran, rest = captured(ships, number, process.pid, lines)
            _, ran_empty, rest_empty = captured(ships, number + 1, process.pid, 0)
            mine.append(took)
            running.append((ran - ran_empty) * 1e9 / lines)
            after.append((rest - rest_empty) * 1e9 / lines)
        ships.stop(process)
    ratio = statistics.median(f / m for f, m in zip(floor, mine, strict=True))
    print(
        f"{'log capture, lines of 100 bytes':<44} {1e3 / statistics.median(mine):8.2f} M/s"
        f"   floor {1e3 / statistics.median(floor):6.2f} M/s   ratio {ratio:5.2f}"
        f"   goal >= 0.95 {'reached' if ratio >= 0.95 else 'missed'}"
    )
    per_line = statistics.median(running)
    verdict = "reached" if per_line <= 50 else "missed"
    print(
        f"{'  coordinator while it runs, per line':<44} {per_line:8.1f} ns    goal <= 50 {verdict}"
    )
    print(f"{'  after its end, the readable log, per line':<44} {statistics.median(after):8.1f} ns")


def extraction(root: Path) -> None:
    """The error at the end of a log of 1 GiB, beside reading all of it."""
    log = root / "out"
    last = b'{"type":"result","is_error":true,"result":"Not logged in"}\n'
    with log.open("wb") as file:
        file.seek(GIB - len(last) - 1)
        file.write(b"\n" + last)
    definition = load_catalog({}).get("claude")
    took: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        found = diagnose(definition, 1, None, b"", read_tail(log, TAIL_BYTES))
        took.append((time.perf_counter() - began) * 1000)
        assert found is not None
        assert found.reason == "auth"
    began = time.perf_counter()
    with log.open("rb") as file:
        while file.read(1024**2):
            pass
    whole = (time.perf_counter() - began) * 1000
    mine = statistics.median(took)
    verdict = "reached" if mine <= 5 else "missed"
    print(
        f"{'error extraction from a log of 1 GiB':<44} {mine:8.2f} ms   reading all {whole:7.1f} ms"
        f"   {whole / mine:6.0f} times less   goal <= 5 ms {verdict}"
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aab-") as name:
        extraction(Path(name))
    with tempfile.TemporaryDirectory(prefix="aab-") as name:
        capture(Path(name), chosen.lines, chosen.rounds)


if __name__ == "__main__":
    main()
