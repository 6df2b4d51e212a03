"""The command line of the scripted model: see the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path

from aiagent_coordinator.scripted_model.faults import Fault
from aiagent_coordinator.scripted_model.server import ModelServer
from aiagent_coordinator.scripted_model.turns import PLAN


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    """Serve until killed, or until whoever started us is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--fault", choices=["status", "hang", "drop"], default="")
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("--times", type=int)
    parser.add_argument("--lasts", type=float)
    parser.add_argument("--status", type=int, default=429)
    parser.add_argument("--header", type=_header, action="append", default=[])
    parser.add_argument("--body", type=json.loads)
    parser.add_argument("--watch", action="append", default=[])
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--said", type=_header, action="append", default=[])
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if given.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    plan = json.loads(given.plan.read_text("utf-8")) if given.plan else PLAN
    headers = tuple(given.header)
    fault = Fault(
        given.fault, given.after, given.times, given.status, headers, given.body, given.lasts
    )
    server = ModelServer(given.log, plan, fault)
    server.watched = tuple(given.watch)
    server.said, server.kept = tuple(given.said), given.keep
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
