"""Text in columns: by what characters really take on a terminal, long cells folded, nothing lost.

Not rich: it takes seconds over the thousands of rows that a board may have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: Between two columns of a table.
GAP = "  "
#: `tsk_` and 26 characters.
_ID_CHARS = 30
#: A long cell in fewer columns than that is a tower of syllables.
_READABLE = 12
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def width(text: str) -> int:
    """Columns a terminal gives the text: wide characters take two, combining ones none."""
    # only the few characters that may differ are looked up: lists are long
    found = [] if text.isascii() else _NOT_ASCII.findall(text)
    return len(text) + sum(_beyond_one(mark) for mark in found)


def whole(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as aligned lines, however long they become."""
    return _lines(rows, _natural(rows))


def fitted(rows: Sequence[Sequence[str]], columns: int) -> list[str] | None:
    """Rows as aligned lines of at most `columns` columns; None when that could not be read.

    The first column stays whole if it is no longer than an id, which people copy.
    """
    natural = _natural(rows)
    left = columns - len(GAP) * (len(natural) - 1)
    widths = list(natural)
    shared = sorted(range(len(natural)), key=natural.__getitem__)
    if natural[0] <= _ID_CHARS:
        shared.remove(0)
        left -= natural[0]
    # who needs little leaves the rest to the others, who share it
    for done, index in enumerate(shared):
        widths[index] = min(natural[index], left // (len(shared) - done))
        left -= widths[index]
    if any(has < min(needs, _READABLE) for has, needs in zip(widths, natural, strict=True)):
        return None
    return list(_lines(rows, widths))


def blocks(rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Each row as its first cell and, indented below it, the others: for few columns."""
    for first, *others in rows:
        yield from fold(first, columns)
        for line in fold(GAP.join(others), columns - len(GAP)):
            yield (GAP + line).rstrip()


def fold(text: str, columns: int) -> list[str]:
    """Break a text into lines of at most `columns` columns: between words where that is possible."""
    if width(text) <= columns:
        return [text]
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if width(joined) <= columns:
            lines[-1] = joined
            continue
        if not lines[-1]:
            lines.pop()
        lines += _chopped(word, columns)
    return lines


def _chopped(word: str, columns: int) -> list[str]:
    pieces, used = [""], 0
    for mark in word:
        takes = 1 + _beyond_one(mark)
        if used + takes > columns and pieces[-1]:
            pieces.append("")
            used = 0
        pieces[-1] += mark
        used += takes
    return pieces


def _natural(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(width, column)) for column in zip(*rows, strict=True)]


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for row in rows:
        cells = [fold(cell, columns) for cell, columns in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [
                _padded(cell[number] if number < len(cell) else "", columns)
                for cell, columns in zip(cells, widths, strict=True)
            ]
            yield GAP.join(parts).rstrip()


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def _beyond_one(mark: str) -> int:
    if mark <= "\x7f":
        return 0
    import unicodedata

    if unicodedata.combining(mark):
        return -1
    return 1 if unicodedata.east_asian_width(mark) in "WF" else 0
