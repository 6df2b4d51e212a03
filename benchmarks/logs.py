"""What capturing a log costs, and what finding the error in a large one does.

    python benchmarks/logs.py [--lines 400000] [--rounds 8]

In turn in one run: a C program that writes lines of 100 bytes to a file by itself, and the same program
as an agent under the coordinator, unwatched. Goals: at least 0.95 of the speed, at most 50 ns of the
coordinator's processor time per line, and 5 ms for the error in a log of 1 GiB. Needs gcc.
"""

from __future__ import annotations

import argparse
import os
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

TICKS = os.sysconf("SC_CLK_TCK")
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


def captured(ships: Fleet, number: int, pid: int, lines: int) -> tuple[float, float]:
    """Nanoseconds per line as an agent, and of the coordinator's processor time per line while it ran."""
    ships.add(number)
    before = cpu_seconds(pid)
    ships.over([number])
    used = cpu_seconds(pid) - before
    (run,) = ships.runs(number)
    folder = ships.run_dir(run)
    assert (folder / "out").stat().st_size == lines * 100
    return int((folder / "err").read_bytes()) / lines, used * 1e9 / lines


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def capture(root: Path, lines: int, rounds: int) -> None:
    """Both ways in turn; the coordinator's own work for a run is taken off by a run without output."""
    writer = root / "writer"
    subprocess.run(["gcc", "-O2", "-o", str(writer), str(HERE / "writer.c")], check=True)
    with fleet(root / "f", 2 * rounds) as ships:
        process = ships.coordinate()
        mine: list[float] = []
        floor: list[float] = []
        used: list[float] = []
        for number in range(0, 2 * rounds, 2):
            floor.append(alone(writer, ships.project(number), lines))
            (ships.project(number) / "do.sh").write_text(f"exec {writer} {lines}", encoding="ascii")
            (ships.project(number + 1) / "do.sh").write_text(f"exec {writer} 0", encoding="ascii")
            took, whole = captured(ships, number, process.pid, lines)
            ships.add(number + 1)
            before = cpu_seconds(process.pid)
            ships.over([number + 1])
            mine.append(took)
            used.append(whole - (cpu_seconds(process.pid) - before) * 1e9 / lines)
        ships.stop(process)
    ratio = statistics.median(f / m for f, m in zip(floor, mine, strict=True))
    print(
        f"{'log capture, lines of 100 bytes':<44} {1e3 / statistics.median(mine):8.2f} M/s"
        f"   floor {1e3 / statistics.median(floor):6.2f} M/s   ratio {ratio:5.2f}"
        f"   goal >= 0.95 {'reached' if ratio >= 0.95 else 'missed'}"
    )
    per_line = statistics.median(used)
    verdict = "reached" if per_line <= 50 else "missed"
    print(
        f"{'  coordinator, processor time per line':<44} {per_line:8.1f} ns    goal <= 50 {verdict}"
        f"   (with the readable log, which is made from all of it after the end)"
    )


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
