"""The programs that a run executes: copied into its directory, so that an upgrade in place changes no run."""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
from functools import cache
from pathlib import Path

from aiagent_coordinator import wire
from aiagent_coordinator.executors import inspection


def copy_programs(run_dir: Path) -> None:
    """Put what a run executes into its directory, so that an upgrade in place changes no run.

    Writes `format`, `shim.py`, `bridge.py`, `confine.py` and the shim compiled. Idempotent; what is there stays.

    Raises:
        OSError: the directory cannot be written.
    """
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in _programs().items():
        target = run_dir / name
        if not target.exists():
            temporary = run_dir / f"{name}.tmp"
            temporary.write_bytes(content)
            temporary.chmod(0o600)
            temporary.replace(target)


@cache
def _programs() -> dict[str, bytes]:
    """The programs as they are when first asked for, whatever an upgrade writes later."""
    folder = Path(wire.__file__).parent
    shim = (folder / "shim.py").read_bytes()
    header = importlib.util.MAGIC_NUMBER + bytes(12)
    code = compile(shim, "shim.py", "exec", dont_inherit=True, optimize=2)
    return {
        "shim.py": shim,
        # Compiling costs a shim a third of its start.
        "shim.pyc": header + marshal.dumps(code),
        "bridge.py": (folder / "bridge.py").read_bytes(),
        "confine.py": (folder / "confine.py").read_bytes(),
        "format": inspection.FORMAT + b"\n",
    }


def program_of(shim_file: Path) -> str:
    """The compiled shim beside the source if this Python made it, else the source."""
    compiled = shim_file.with_suffix(".pyc")
    magic = inspection.read_plain(compiled, len(importlib.util.MAGIC_NUMBER))
    return os.fspath(compiled if magic == importlib.util.MAGIC_NUMBER else shim_file)


@cache
def python() -> str:
    """The interpreter itself: an environment that is moved or removed takes no shim with it."""
    return os.path.realpath(sys.executable)
