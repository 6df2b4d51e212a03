"""Lines out of pieces of bytes, in memory that does not grow with them."""

from __future__ import annotations

#: A longer line is passed over.
MAX_LINE_BYTES = 16 * 1024 * 1024


class Lines:
    """Splits at line ends; the same lines come wherever the bytes were cut."""

    def __init__(self, most_bytes: int = MAX_LINE_BYTES) -> None:
        self._most = most_bytes
        self._begun: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes | int]:
        """Take the next bytes; give the lines that ended, and the length of each that is too long."""
        ended = data.split(b"\n")
        if len(ended) == 1:
            self._begin(data)
            return []
        self._begin(ended[0])
        found = [self._end()]
        found += [line if len(line) <= self._most else len(line) for line in ended[1:-1]]
        self._begin(ended[-1])
        return found

    def finish(self) -> list[bytes | int]:
        """The last line, if it has no end."""
        return [self._end()] if self._length else []

    def _begin(self, piece: bytes) -> None:
        if not piece:
            return
        self._length += len(piece)
        if self._length <= self._most:
            self._begun.append(piece)
        else:
            self._begun = []

    def _end(self) -> bytes | int:
        line = b"".join(self._begun) if self._length <= self._most else self._length
        self._begun, self._length = [], 0
        return line
