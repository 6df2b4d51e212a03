"""Masking: what leaves a run's raw files passes here, and comes out without secrets or terminal control.

Masking is help against accidents, no boundary: a program can always encode what it wants to say.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "[masked]"
_MASK_BYTES = MASK.encode()
#: Shorter values are ordinary words; masking them would garble every log.
MIN_SECRET_CHARS = 6
#: To be read before a window that is masked and then cut: half a secret would not be known as one.
OVERLAP_BYTES = 4096

# A token of a known shape: how it begins (a bounded number of bytes), where it may begin.
# `sk-` needs a border before it, or the end of `task-` would begin a secret; `\n` and `\t` as two
# characters are a border too: that is how JSON writes a line's end.
_TOKEN = re.compile(
    rb"sess_[0-9a-f]{32}"
    rb"|(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))sk-[A-Za-z0-9_-]{16}"
    rb"|gh[opusr]_[A-Za-z0-9]{16}"
    rb"|github_pat_[A-Za-z0-9_]{16}"
    rb"|AIza[A-Za-z0-9_-]{20}"
    rb"|xox[abprs]-[A-Za-z0-9-]{10}"
)
_TOKEN_MARKERS = (
    *(b"sess_", b"sk-", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"AIza"),
    *(b"xoxa-", b"xoxb-", b"xoxp-", b"xoxr-", b"xoxs-"),
)
#: Longest beginning that `_TOKEN` matches (`sess_` and 32 digits), and how far back it looks.
_TOKEN_BYTES = 37
_LOOK_BEHIND_BYTES = 2
# The rest of a token, however long: everything up to the next byte that cannot be in one.
_TOKEN_REST = re.compile(rb"[A-Za-z0-9_-]*")

# Escape sequences (CSI; OSC, DCS and their like up to their end; two-byte ones), then lone controls.
_CONTROL = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,16}[@-~]?"
    r"|\x1b[\]PX^_][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]{0,16}[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def printable(text: str) -> str:
    """Drop what moves a terminal's cursor, changes its title or colours; keep tabs and line ends."""
    return _CONTROL.sub("", text)


class Masker:
    """Replaces every occurrence of known secrets, and of tokens of known shapes, by `[masked]`.

    What overlaps is masked as one. A secret is found as it is, as JSON and URLs write it, inside
    base64 at any offset, and line by line when it has several lines.

    Args:
        secrets: The values to hide; those under `MIN_SECRET_CHARS` characters are left alone.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        needles = {needle for secret in secrets for needle in _variants(secret)}
        # A needle inside another one is found by it only where the longer one is not whole: keep both.
        self._needles = tuple(sorted(needles))
        longest = max((len(needle) for needle in self._needles), default=0)
        self.hold_bytes = max(longest, _TOKEN_BYTES) - 1

    def is_clean(self, data: bytes) -> bool:
        """Whether nothing in `data` can be masked; cheap, so ask before going line by line."""
        if next(self.token_spans(data, 0), None) is not None:
            return False
        return not any(needle in data for needle in self._needles)

    def stream(self) -> MaskStream:
        """Begin to mask a stream."""
        return MaskStream(self)

    def mask_bytes(self, data: bytes) -> bytes:
        """Mask one complete piece of output."""
        if self.is_clean(data):
            return data
        stream = self.stream()
        return stream.feed(data) + stream.finish()

    def mask_text(self, text: str) -> str:
        """Mask one complete text."""
        data = text.encode("utf-8", "surrogatepass")
        masked = self.mask_bytes(data)
        return text if masked is data else masked.decode("utf-8", "surrogatepass")

    def needle_spans(self, data: bytes, start: int) -> Iterator[tuple[int, int]]:
        """Yield where a secret stands, from `start` on; unordered, may overlap."""
        for needle in self._needles:
            found = data.find(needle, start)
            while found >= 0:
                yield found, found + len(needle)
                found = data.find(needle, found + 1)

    @staticmethod
    def token_spans(data: bytes, start: int) -> Iterator[tuple[int, int]]:
        """Yield where a token of a known shape stands, from `start` on, up to its last byte in `data`."""
        for marker in _TOKEN_MARKERS:
            # looking for the marker first is a hundred times faster than the pattern alone
            found = data.find(marker, start)
            while found >= 0:
                end = found + 1
                token = _TOKEN.match(data, found)
                if token:
                    end = _rest_of_token(data, token.end())
                    yield found, end
                found = data.find(marker, end)


class MaskStream:
    """Masks a stream piece by piece; the result does not depend on where it was cut.

    Holds back at most the longest needle, so memory is bounded whatever comes.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._pending = b""
        # bytes already given out, for what a token's beginning looks back at
        self._context = b""
        # how much of `_pending` is known to be secret, and whether the token goes on behind it
        self._covered = 0
        self._in_token = False
        self._in_mask = False

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; return what is certain by now."""
        return self._advance(data, self._masker.hold_bytes)

    def finish(self) -> bytes:
        """Return the rest; the stream is over."""
        return self._advance(b"", 0)

    def _advance(self, data: bytes, hold: int) -> bytes:
        # positions below are relative to `base`, where what was not given out yet begins
        base = len(self._context)
        window = self._context + self._pending + data
        size = len(window) - base
        border = max(0, size - hold)
        if self._in_token:
            self._covered = _rest_of_token(window, base + len(self._pending)) - base
            self._in_token = self._covered == size
        runs = [(0, self._covered)]
        if not self._masker.is_clean(window):
            tokens = [(a - base, b - base) for a, b in self._masker.token_spans(window, base)]
            # one that begins behind the border is found again next time
            self._in_token |= any(end == size and start <= border for start, end in tokens)
            runs += tokens
            runs += [(a - base, b - base) for a, b in self._masker.needle_spans(window, base)]
        out = self._emit(window[base:], _merge(runs), border)
        self._covered = max(0, max(end for start, end in runs if start <= border) - border)
        keep = base + border
        self._context = window[max(0, keep - _LOOK_BEHIND_BYTES) : keep]
        self._pending = window[keep:]
        return out

    def _emit(self, data: bytes, runs: list[tuple[int, int]], border: int) -> bytes:
        pieces: list[bytes] = []
        position = 0
        for start, end in runs:
            if start >= border:
                break
            if start > position:
                pieces.append(data[position:start])
                self._in_mask = False
            if not self._in_mask:
                pieces.append(_MASK_BYTES)
                self._in_mask = True
            position = min(end, border)
        if position < border:
            pieces.append(data[position:border])
            self._in_mask = False
        return b"".join(pieces)


def _rest_of_token(data: bytes, position: int) -> int:
    rest = _TOKEN_REST.match(data, position)
    return rest.end() if rest else position


def _merge(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join what overlaps or touches: two secrets side by side become one mask."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(runs):
        if start == end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _variants(secret: str) -> Iterator[bytes]:
    """The forms in which a secret turns up in output."""
    texts = [secret, *(line for line in secret.splitlines() if line != secret)]
    for text in texts:
        if len(text) < MIN_SECRET_CHARS:
            continue
        raw = text.encode("utf-8", "surrogatepass")
        yield raw
        yield json.dumps(text)[1:-1].encode()
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
        yield quote(raw, safe="").encode()
        yield quote_plus(raw).encode()
        yield from _base64_forms(raw)


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    """The characters of base64 that depend on the secret alone, for each offset it may have."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        # 8·offset bits come before: the characters they reach into depend on them
        head = (8 * offset + 5) // 6
        whole = 8 * (offset + len(raw)) // 6
        form = encoded[head:whole]
        if len(form) >= MIN_SECRET_CHARS:
            yield form
            yield form.replace(b"+", b"-").replace(b"/", b"_")
