"""The official conformance suite against our HTTP side: nothing fails, and nothing is expected to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from support import npm

BOARD = Path(__file__).parents[1] / "fakes" / "conformance_board.py"
#: Leg → (harness, arguments, checks that pass at least).
LEGS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "0.1.16": ("0.1.16", (), 44),
    "alpha": ("0.2.0-alpha.12", (), 231),
    "alpha at 2025-11-25": ("0.2.0-alpha.12", ("--spec-version", "2025-11-25"), 81),
    "alpha at 2026-07-28": ("0.2.0-alpha.12", ("--spec-version", "2026-07-28"), 152),
}


@pytest.fixture(scope="module")
def board_url() -> Generator[str]:
    """The fixtures of the suite, served by our HTTP side."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(BOARD), "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://localhost:{process.stdout.readline().strip()}/mcp"
        finally:
            process.kill()


def run_leg(url: str, folder: Path, leg: str) -> list[dict[str, Any]]:
    harness, arguments, _ = LEGS[leg]
    command = [npm.node() or "node", str(npm.CONFORMANCE[harness]), "server", "--url", url]
    command += ["--suite", "all", "-o", str(folder), *arguments]
    command += ["--expected-failures", str(npm.EXPECTED_FAILURES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return [
        check for file in folder.glob("*/checks.json") for check in json.loads(file.read_text())
    ]


@pytest.mark.needs("npm")
@pytest.mark.parametrize("leg", LEGS)
def test_the_suite_passes(board_url: str, tmp_path: Path, leg: str) -> None:
    checks = run_leg(board_url, tmp_path, leg)
    counted = Counter(check["status"] for check in checks)
    print(f"conformance {leg}: {dict(counted)}")
    assert counted["FAILURE"] == 0
    assert counted["SUCCESS"] >= LEGS[leg][2]
    assert counted["WARNING"] == 0
