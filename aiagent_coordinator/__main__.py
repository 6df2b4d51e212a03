"""The two console scripts. `--version` is answered before anything is imported."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run `aiagent-coordinator` and give its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["--version"]:
        return _version("aiagent-coordinator")
    from aiagent_coordinator.cli.main import run

    return run(words)


def agent_main(arguments: list[str] | None = None) -> int:
    """Run `aiagent`, the command of agents, and give its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["--version"]:
        return _version("aiagent")
    from aiagent_coordinator.cli.task_commands import run

    return run(words)


def _version(program: str) -> int:
    from aiagent_coordinator import __version__

    print(f"{program} {__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
