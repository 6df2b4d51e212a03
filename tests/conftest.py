"""What every test may rely on: what the machine offers, and short paths for sockets."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from aiagent_coordinator.executors import cgroup
from support import npm
from support.ordinary import ordinary_python
from support.runners import runner

# How long an example takes is no property of the code: two busy cores are slow.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


#: Begins the reason where no package helps: such a test is counted, and fails no run.
NO_INSTALL = "cannot be installed:"
LOOPBACK_ONLY = Path(__file__).parent / "fakes" / "loopback_only.py"


@cache
def _missing(need: str) -> str | None:
    """Why this machine cannot run a test that needs the named thing; None when it can."""
    if need in PROGRAMS:
        return None if shutil.which(need) else f"needs {need}"
    if need.startswith("runner-"):
        there = runner(need.removeprefix("runner-"))
        return None if there else f"{NO_INSTALL} aiagent-{need} from a package index"
    return NEEDS[need]()


def _root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def _mount() -> str | None:
    return None if os.geteuid() == 0 and shutil.which("mount") else "needs root and mount"


def _postgres() -> str | None:
    found = shutil.which("initdb") or sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return None if found else "needs PostgreSQL's server programs"


def _cgroup() -> str | None:
    return None if cgroup.place() else "needs a cgroup of the second version that is ours"


def _landlock() -> str | None:
    # landlock_create_ruleset that asks for the version alone
    version = ctypes.CDLL(None).syscall(444, None, 0, 1) if sys.platform == "linux" else 0
    return None if version >= 4 else "needs a kernel with Landlock"


def _system_python() -> str | None:
    there = os.access("/usr/bin/python3", os.X_OK)
    return None if there else "needs a Python that every user can run"


def _npm() -> str | None:
    reason = npm.missing()
    is_final = reason is not None and npm.UNAVAILABLE.is_file()
    return f"{NO_INSTALL} {npm.UNAVAILABLE.read_text().strip()}" if is_final else reason


def _clis() -> str | None:
    reason = npm.missing_clis()
    is_final = reason is not None and npm.UNAVAILABLE.is_file()
    return f"{NO_INSTALL} {npm.UNAVAILABLE.read_text().strip()}" if is_final else reason


def _namespace() -> str | None:
    done = subprocess.run([sys.executable, LOOPBACK_ONLY, "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "needs a network namespace of its own"


def _without_ordinary_user() -> str | None:
    """Root escapes some limits; then another user must be able to run the product."""
    with tempfile.TemporaryDirectory(prefix="aac-") as name:
        Path(name).chmod(0o755)
        found = ordinary_python(Path(name))
    return None if found else f"{NO_INSTALL} an interpreter other users can run"


PROGRAMS = frozenset({"nc", "strace", "node", "bwrap", "systemd-analyze", "openssl"})
NEEDS = {
    "root": _root,
    "mount": _mount,
    "postgres": _postgres,
    "ordinary user": _without_ordinary_user,
    "cgroup": _cgroup,
    "landlock": _landlock,
    "system-python": _system_python,
    "npm": _npm,
    "clis": _clis,
    "network namespace": _namespace,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("needs"):
            for need in marker.args:
                reason = _missing(need)
                if reason:
                    item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests this machine could not run; where all can run, that is a failure."""
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(f"{skipped} tests were skipped; the reasons stand above")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("AIAGENT_TESTS_FORBID_SKIPS"):
        return
    skipped = reporter.stats.get("skipped", [])
    if session.exitstatus == 0 and any(NO_INSTALL not in str(each.longrepr) for each in skipped):
        session.exitstatus = 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a short name: a socket's path holds about a hundred bytes."""
    with tempfile.TemporaryDirectory(prefix="aac-") as name:
        yield Path(name)
