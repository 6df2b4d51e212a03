"""A YAML file as plain values with the line of every key. Knows nothing of settings.

Stricter than YAML: no anchors, aliases or tags (so no bombs), no key twice, and no plain words that
YAML versions read differently. Built from the parser's events, so depth costs no recursion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

import yaml

from aiagent_coordinator.config.words import Value, plain, trap
from aiagent_coordinator.errors import ConfigError

#: A configuration of this size is a mistake or an attack.
MAX_BYTES = 1024 * 1024
#: Settings nest five levels; the rest is margin.
MAX_DEPTH = 64
#: The parser needs about 0.1 ms each; a file with more would take longer than anybody waits.
MAX_EVENTS = 20_000

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake in the file. Line 0: it concerns no line."""

    line: int
    key: KeyPath
    reason: str

    def render(self, file: str) -> str:
        """Write it as `FILE:LINE: KEY: reason`, leaving out what is not known."""
        place = f"{file}:{self.line}" if self.line else file
        return ": ".join(part for part in (place, dotted(self.key), self.reason) if part)


@dataclass
class Source:
    """What a file says, and where."""

    file: str
    data: dict[str, Value] = field(default_factory=dict[str, "Value"])
    lines: dict[KeyPath, int] = field(default_factory=dict[KeyPath, int])

    def line_of(self, key: KeyPath) -> int:
        """The line of a key, else of the nearest one around it, else 0."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return self.lines[key[:length]]
        return 0


def dotted(key: KeyPath) -> str:
    """Write a key path for people: `projects[0].path`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def refuse(file: str, problems: list[Problem]) -> ConfigError:
    """Make one error of all problems of a file: the first is the message, the rest are details."""
    lines = [problem.render(file) for problem in sorted(set(problems), key=_place)]
    return ConfigError(lines[0], file=file, problems=lines)


def _place(problem: Problem) -> tuple[int, str, str]:
    return problem.line, dotted(problem.key), problem.reason


def read_source(path: Path) -> Source:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, or is not the YAML that is accepted here.
    """
    file = shown(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{file}: is larger than 1 MiB; this is no configuration")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: is not UTF-8; save it as UTF-8") from error
    return parse_source(text, file)


def parse_source(text: str, file: str) -> Source:
    """Read the text of a file.

    Raises:
        ConfigError: as for `read_source`.
    """
    builder = _Builder(Source(file))
    try:
        for count, event in enumerate(_events(text)):
            if count >= MAX_EVENTS:
                raise ConfigError(f"{file}: holds too many values; this is no configuration")
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = _syntax_reason(error, text)
        builder.problems.append(Problem(mark.line + 1 if mark else 0, (), reason))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        builder.problems.append(
            Problem(line, (), f"has a character U+{int(error.character):04X} that YAML forbids")
        )
    if builder.problems:
        raise refuse(file, builder.problems)
    return builder.source


def _events(text: str) -> Iterator[yaml.Event]:
    return cast("Iterator[yaml.Event]", yaml.parse(text, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType] - the stubs leave it open


def shown(path: Path) -> str:
    """What a file is called where people read of it: from the working directory, if it lies there."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _syntax_reason(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    if mark is not None and text.splitlines()[mark.line : mark.line + 1]:
        line = text.splitlines()[mark.line]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return "is indented with a tab; YAML allows only spaces there"
    return f"is not valid YAML: {error.problem or error.context}"


@dataclass
class _Level:
    """A list or mapping that is still open."""

    path: KeyPath
    into: list[Value] | dict[str, Value]
    key: str | None = None
    awaits_value: bool = False

    def child(self) -> KeyPath:
        if isinstance(self.into, list):
            return (*self.path, len(self.into))
        return self.path if self.key is None else (*self.path, self.key)


class _Builder:
    """Takes parser events and grows the source; problems are gathered, the tree stays whole."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._open: list[_Level] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line: int = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise refuse(
                        self.source.file, [Problem(line, (), "holds a second document; keep one")]
                    )
            case yaml.AliasEvent():
                self._complain(line, "aliases (*name) are not allowed; write the value out")
                self._put(None, line)
            case yaml.ScalarEvent():
                self._mark_check(event, line)
                self._scalar(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._mark_check(event, line)
                self._begin({} if isinstance(event, yaml.MappingStartEvent) else [], line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end(line)
            case _:
                pass

    def _complain(self, line: int, reason: str) -> None:
        path = self._open[-1].child() if self._open else ()
        self.problems.append(Problem(line, path, reason))

    def _mark_check(self, event: yaml.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            self._complain(line, "anchors (&name) are not allowed; write the value out")
        tag: str | None = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            self._complain(line, f"tags ({tag}) are not allowed")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        text: str = event.value
        if event.style is not None:
            self._put(text, line)
            return
        reason = trap(text)
        if reason is not None:
            self._complain(line, reason)
        self._put(plain(text), line)

    def _begin(self, container: list[Value] | dict[str, Value], line: int) -> None:
        if len(self._open) >= MAX_DEPTH:
            reason = f"is nested deeper than {MAX_DEPTH} levels"
            raise refuse(self.source.file, [*self.problems, Problem(line, (), reason)])
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.into, dict) and not parent.awaits_value:
            self._complain(line, "a key must be text")
            parent.key, parent.awaits_value = "?", True
        path = parent.child() if parent else ()
        self.source.lines.setdefault(path, line)
        self._open.append(_Level(path, container))

    def _end(self, line: int) -> None:
        level = self._open.pop()
        # a mapping used as a key closes here without ever having been a value
        self._put(level.into, line)

    def _put(self, value: Value, line: int) -> None:
        if not self._open:
            self._finish(value, line)
            return
        level = self._open[-1]
        if isinstance(level.into, list):
            self.source.lines.setdefault((*level.path, len(level.into)), line)
            level.into.append(value)
        elif level.awaits_value and level.key is not None:
            level.into.setdefault(level.key, value)
            level.awaits_value = False
        else:
            level.key = value if isinstance(value, str) else str(value)
            level.awaits_value = True
            self._check_key(level, level.into, value, line)

    def _check_key(self, level: _Level, mapping: dict[str, Value], value: Value, line: int) -> None:
        path = level.child()
        if not isinstance(value, str):
            self.problems.append(Problem(line, path, "a key must be text; put it in quotes"))
        elif value in mapping:
            first = self.source.lines[path]
            reason = f"is set twice, first in line {first}; keep one"
            self.problems.append(Problem(line, path, reason))
        self.source.lines.setdefault(path, line)

    def _finish(self, value: Value, line: int) -> None:
        if isinstance(value, dict):
            self.source.data = value
        elif value is not None:
            self.problems.append(Problem(line, (), "must hold settings as `key: value` lines"))


def walk(value: Value, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the paths of everything that is no list or mapping, and of empty ones."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))
    else:
        yield path
