"""One JSON object per line: how messages become bytes and bytes become messages. Standard library only.

A duplicated key keeps its last value, as everywhere in Python. A text cut in the middle of a
surrogate pair (JavaScript programs make them) arrives with U+FFFD in its place: nothing behind this
border has to cope with text that has no UTF-8 form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json import JSONDecoder, JSONEncoder
from re import DOTALL
from re import compile as compile_pattern
from typing import Any, Literal, NoReturn, cast

from aiagent_coordinator.wire.protocol import MAX_FRAME_BYTES

Json = dict[str, Any]

#: Deeper nesting is refused; real messages stay below ten, and a bomb must not exhaust the stack.
MAX_DEPTH = 64

_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
# Possessive, so that a string without an end costs one pass and not one per character.
_STRING = compile_pattern(rb'"(?:[^"\\]++|\\.)*+"?', DOTALL)

_LONE_SURROGATE = compile_pattern("[\ud800-\udfff]")


class FrameError(ValueError):
    """A line is no message.

    `kind` tells JSON-RPC's two cases apart: `parse` is no JSON (-32700), `invalid` is JSON that
    cannot be a message (-32600).
    """

    def __init__(self, kind: Literal["parse", "invalid"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class FrameTooLargeError(FrameError):
    """A line is longer than allowed; `before` holds the complete lines that came ahead of it."""

    def __init__(self, max_bytes: int, before: list[bytes]) -> None:
        super().__init__("invalid", f"a message is larger than {max_bytes} bytes")
        self.before = before


def _refuse_constant(name: str) -> NoReturn:
    raise FrameError("parse", f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise FrameError("invalid", "a number is out of range")
    return value


_encoder = JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)
_decoder = JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def encode(message: Mapping[str, object]) -> bytes:
    """Write a message as one line, newline included.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value has no JSON form.
    """
    text = _encoder.encode(message)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate travels as its escape
        return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Json:
    """Read one line.

    Raises:
        FrameError: it is no JSON object, nests too deep, or holds what has no finite value.
    """
    # Counting is an upper bound of the depth; only what could be too deep is looked at closely.
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _is_too_deep(line):
        raise FrameError("invalid", f"nested deeper than {MAX_DEPTH}")
    try:
        text = line.decode().strip(" \t\r\n")
        decoded: tuple[object, int] = _decoder.raw_decode(text)
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        # ValueError also covers integers that the interpreter refuses to read (4300 digits).
        raise FrameError("parse", f"no JSON: {error}") from None
    value, end = decoded
    if end != len(text):
        raise FrameError("parse", "no JSON: more than one value on a line")
    if not isinstance(value, dict):
        raise FrameError("invalid", "a message is a JSON object")
    message = cast("Json", value)
    if b"\\ud" in line or b"\\uD" in line:
        return cast("Json", _mend(message))
    return message


def _is_too_deep(line: bytes) -> bool:
    """Whether brackets outside strings nest too deep; every pass takes the innermost pairs away."""
    brackets = _STRING.sub(b"", line).translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _mend(value: object) -> object:
    """Replace lone surrogates in every text, keys included; the depth is bounded by then."""
    match value:
        case str():
            return _LONE_SURROGATE.sub("\ufffd", value)
        case list():
            return [_mend(item) for item in cast("list[object]", value)]
        case dict():
            items = cast("dict[str, object]", value).items()
            return {cast("str", _mend(key)): _mend(item) for key, item in items}
        case _:
            return value


class LineBuffer:
    """Collects bytes and gives complete lines, without their newline; blank ones are skipped.

    After `FrameTooLargeError` it is of no further use: where the next line starts is unknown.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived, in pieces of any size, and give the lines that are complete now.

        Raises:
            FrameTooLargeError: a line with its newline exceeds the limit, complete or not.
        """
        newline = data.rfind(b"\n")
        if newline < 0:
            self._keep(data, [])
            return []
        self._parts.append(data[:newline])
        lines = b"".join(self._parts).split(b"\n")
        self._parts, self._size = [], 0
        if len(data) + len(lines[0]) >= self._max_bytes:
            self._check(lines)
        lines = [line for line in lines if line and not line.isspace()]
        self._keep(data[newline + 1 :], lines)
        return lines

    def _keep(self, rest: bytes, lines: list[bytes]) -> None:
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size >= self._max_bytes:
            raise FrameTooLargeError(self._max_bytes, lines)

    def _check(self, lines: list[bytes]) -> None:
        for index, line in enumerate(lines):
            if len(line) >= self._max_bytes:
                before = [one for one in lines[:index] if one and not one.isspace()]
                raise FrameTooLargeError(self._max_bytes, before)
