"""What it costs to understand a program's output, beside `json.loads` of the same lines.

Run: python benchmarks/parsing.py [REPEATS]; some seconds at the default of 200. The lines are those that the
real programs printed, in `tests/fixtures/transcripts`. A ratio of 1 would be parsing and nothing else.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiagent_coordinator.pipeline.stream import Stream
from aiagent_coordinator.providers.dialects import reader_of
from aiagent_coordinator.providers.digest import Digest
from aiagent_coordinator.redaction import Masker

HOME = Path(__file__).parents[1] / "tests" / "fixtures" / "transcripts"
DIALECTS = {
    "claude": "claude-stream",
    "codex": "codex-json",
    "gemini": "gemini-stream",
    "opencode": "opencode-json",
    "qwen": "qwen-stream",
}
MIB = 1024 * 1024
#: Each figure is the best of so many, since the machine may be busy.
TRIES = 5


def best(work: Callable[[], object]) -> float:
    """Seconds of processor time that the quickest of some tries took."""
    times: list[float] = []
    for _ in range(TRIES):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def parse(data: bytes) -> None:
    for line in data.split(b"\n"):
        if line:
            json.loads(line)


def fold(dialect: str, data: bytes) -> None:
    reader, digest = reader_of(dialect), Digest()
    for start in range(0, len(data), 65536):
        for event in reader.feed(data[start : start + 65536]):
            digest.take(event)


def follow(dialect: str, data: bytes) -> None:
    """As a coordinator does it, files and masking included."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "out").write_bytes(data)
        Stream(Path(name), dialect, Masker(["a-secret-of-nobody"]), backend="x").finish()


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{'program':<22}{'MiB':>6}{'loads MiB/s':>13}{'events x':>10}{'with files x':>14}")
    for folder in sorted(HOME.iterdir()):
        dialect = DIALECTS.get(folder.name.partition("-")[0])
        if dialect is None:
            continue
        data = (folder / "tool-error.jsonl").read_bytes() * repeats
        plain = best(lambda data=data: parse(data))
        events = best(lambda dialect=dialect, data=data: fold(dialect, data))
        files = best(lambda dialect=dialect, data=data: follow(dialect, data))
        size = len(data) / MIB
        print(
            f"{folder.name:<22}{size:>6.1f}{size / plain:>13.0f}"
            f"{events / plain:>10.2f}{files / plain:>14.2f}"
        )


if __name__ == "__main__":
    main()
