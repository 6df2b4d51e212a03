"""Where a key stands in a TOML file: the parser keeps no positions, so its words are looked for."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"'-]+)\s*\]")


def line_of(text: str, path: KeyPath) -> int | None:
    """The line of a key, else of the innermost table around it that has one; None when not found.

    A number in the path is the index in an array of tables.
    """
    names = [part for part in path if isinstance(part, str)]
    index = next((part for part in path if isinstance(part, int)), 0)
    for depth in range(len(names), 0, -1):
        line = _find(text.splitlines(), names[: depth - 1], names[depth - 1], index)
        if line:
            return line
    return None


def _find(lines: list[str], table: list[str], key: str, index: int) -> int | None:
    """Look for `key` in `table` (in the array's entry `index`), or for the table `table.key`."""
    assignment = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
    current: list[str] = []
    entry: int | None = None
    for number, line in enumerate(lines, 1):
        header = _HEADER.match(line)
        if header:
            before, current = current, [part.strip("\"'") for part in header[2].split(".")]
            is_array = header[1] == "[["
            entry = (entry or 0) + (before == current) if is_array else None
            if current == [*table, key] and entry in {None, index}:
                return number
        elif current == table and entry in {None, index} and assignment.match(line):
            return number
    return None
