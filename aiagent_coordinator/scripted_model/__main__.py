"""The command line of the scripted model: see the package."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aiagent_coordinator.scripted_model.server import Fault, ModelServer
from aiagent_coordinator.scripted_model.turns import PLAN


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--fault", choices=["status", "hang", "drop"], default="")
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("--times", type=int)
    parser.add_argument("--status", type=int, default=429)
    parser.add_argument("--header", type=_header, action="append", default=[])
    parser.add_argument("--body", type=json.loads)
    parser.add_argument("--watch", action="append", default=[])
    parser.add_argument("--said", type=_header, action="append", default=[])
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    plan = json.loads(given.plan.read_text("utf-8")) if given.plan else PLAN
    headers = tuple(given.header)
    fault = Fault(given.fault, given.after, given.times, given.status, headers, given.body)
    server = ModelServer(given.log, plan, fault)
    server.watched = tuple(given.watch)
    server.said, server.kept = tuple(given.said), given.keep
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
