"""Programs from npm that tests run, where `tests/npm` was installed: see its `package.json`."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

#: Where `npm install` put the packages; another folder can be named.
HOME = Path(os.environ.get("AIAGENT_TESTS_NPM") or Path(__file__).parents[1] / "npm")
MODULES = HOME / "node_modules"
EXPECTED_FAILURES = Path(__file__).parents[1] / "npm" / "expected-failures.yml"
#: Written where they could not be installed: why.
UNAVAILABLE = HOME / "unavailable"
CONFORMANCE = {
    "0.1.16": MODULES / "@modelcontextprotocol/conformance/dist/index.js",
    "0.2.0-alpha.12": MODULES / "conformance-alpha/dist/index.js",
}
INSPECTOR = MODULES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
#: Where `npm install` put the CLIs of `tests/npm/clis`; and which they are.
CLI_HOME = Path(os.environ.get("AIAGENT_CLI_CACHE") or Path(__file__).parents[1] / "npm" / "clis")
CLIS = ("claude", "codex", "gemini")
#: Both need what came with this version.
MIN_NODE = 22


@cache
def node() -> str | None:
    """A Node that is new enough; None where there is none."""
    candidates = [str(path) for path in sorted(MODULES.glob("node-*/bin/node"))]
    candidates += [found] if (found := shutil.which("node")) else []
    for candidate in candidates:
        try:
            done = subprocess.run(
                [candidate, "--version"], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if int(done.stdout.strip().lstrip("v").partition(".")[0]) >= MIN_NODE:
            return candidate
    return None


def missing() -> str | None:
    """What of this is not there; None when tests can run it."""
    absent = [path for path in (*CONFORMANCE.values(), INSPECTOR) if not path.is_file()]
    if absent:
        return f"needs the npm packages of tests/npm ({absent[0].name} of {absent[0].parts[-3]})"
    return None if node() else f"needs Node {MIN_NODE}"


def missing_clis() -> str | None:
    """Which CLI is not there; None when tests can drive them."""
    programs = CLI_HOME.expanduser() / "node_modules" / ".bin"
    absent = [name for name in CLIS if not (programs / name).exists()]
    if absent:
        return f"needs the npm packages of tests/npm/clis ({', '.join(absent)})"
    return None if shutil.which("node") else "needs node"
