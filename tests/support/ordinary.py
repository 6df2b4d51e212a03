"""Another user than root, with an interpreter that user can run: root escapes some limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import aiagent_coordinator

#: Who is nobody here.
NOBODY_ID = 65534
#: Runs what follows as that user. `setpriv` still has root's rights when it starts its program,
#: so it starts one that starts the program: what then runs, that user can start by itself too.
NOBODY = (
    *("setpriv", f"--reuid={NOBODY_ID}", f"--regid={NOBODY_ID}", "--clear-groups", "--"),
    *("env", "--"),
)
#: Where the interpreter of the tests is shut away in a home, one that every user can reach.
SYSTEM_PYTHON = "/usr/bin/python3"
#: The product is there, and the interpreter can start another as the product does.
_PROBE = (
    "import subprocess, sys, aiagent_coordinator.cli.main;"
    "sys.exit(subprocess.run([sys.executable, '-I', '-S', '-c', 'pass']).returncode)"
)


def ordinary_python(folder: Path) -> Path | None:
    """An interpreter with the product that nobody can run, made in `folder` if need be.

    None where there is no other user to be, or nothing that user could run.
    """
    own = Path(sys.executable)
    if os.geteuid() != 0 or _works(own):
        return own
    site = Path(aiagent_coordinator.__file__).parents[1]
    packages = {str(site), *(each for each in sys.path if each.endswith("site-packages"))}
    made = folder / "python"
    try:
        subprocess.run(
            [SYSTEM_PYTHON, "-m", "venv", "--without-pip", made],
            capture_output=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    lines = "".join(f"import site; site.addsitedir({each!r})\n" for each in sorted(packages))
    found = made / "lib" / version / "site-packages"
    if not found.is_dir():  # another release of Python cannot load what was built for this one
        return None
    (found / "ours.pth").write_text(lines)
    return made / "bin" / "python" if _works(made / "bin" / "python") else None


def _works(python: Path) -> bool:
    command = [*NOBODY, str(python), "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, cwd="/", check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
