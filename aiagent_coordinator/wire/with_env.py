"""Starts a program with variables from a file: what is secret stands in no argument.

Runs as `<python> -I -S with_env.py FILE PROGRAM ARGUMENT…` from a copy in the run's folder. FILE is a
JSON object of texts. Imports nothing of ours: the package may be upgraded or gone while an agent runs.
"""

from __future__ import annotations

import json
import os
import sys


def main(words: list[str]) -> None:
    """Read the file and become the program."""
    with open(words[0], encoding="utf-8") as file:
        os.environ.update(json.load(file))
    try:
        os.execvp(words[1], words[1:])  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{words[1]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
