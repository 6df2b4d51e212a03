"""Run one task from Python, without the command line: `python examples/embed.py`.

It makes a small git repository and a configuration in a temporary folder, lets the rehearsal agent
(scripted: no model, no account, no network) do one task there, and prints what came of it.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import anyio

from aiagent_coordinator.embed import coordinator

CONFIG = """\
state_dir: state
agents:
  robin: {provider: rehearsal}
projects:
  - id: app
    path: app
    agents: [robin]
    checks: ["test -s greeting.txt"]
"""

REQUEST = """\
Write a greeting.

```rehearsal
{"steps": [{"write": {"path": "greeting.txt", "text": "Hello.\\n"}},
           {"report": {"result": "success", "summary": "greeting.txt says hello."}}]}
```
"""


async def main() -> None:
    """One task, from the board to its commit."""
    with tempfile.TemporaryDirectory(prefix="aac-embed-") as folder:
        root = Path(folder).resolve()
        make_repository(root / "app")
        config = root / "coordinator.yaml"
        config.write_text(CONFIG, "utf-8")
        async with coordinator(config) as running:
            task = await running.add_task("app", "Write a greeting", description=REQUEST)
            with anyio.fail_after(60):
                done = await running.finished(task["id"])
        print(f"{done['title']}: {done['status']} ({done['result']['verification']})")
        print(f"commit {done['result']['commit']} on {done['result']['branch']}")


def make_repository(path: Path) -> None:
    """A git repository with one commit."""
    git = ("git", "-c", "user.name=You", "-c", "user.email=you@localhost")
    subprocess.run([*git, "init", "--quiet", str(path)], check=True)
    subprocess.run(
        [*git, "-C", str(path), "commit", "--quiet", "--allow-empty", "--message=Begin"], check=True
    )


if __name__ == "__main__":
    anyio.run(main)
