"""A CLI that tells what it was given: arguments, standard input, environment, and the MCP configuration."""

from __future__ import annotations

import json
import os
import sys

config = next((word for word in sys.argv if word.endswith(".json")), None)
servers = None
if config:
    with open(config, encoding="utf-8") as file:  # noqa: PTH123 - a fake
        servers = json.load(file)
print(
    json.dumps(
        {
            "args": sys.argv[1:],
            "stdin": sys.stdin.read(),
            "env": dict(os.environ),
            "servers": servers,
        }
    )
)
