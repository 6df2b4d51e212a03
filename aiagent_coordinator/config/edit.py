"""Changing one value in the text of a configuration file: comments and layout stay as they are.

What cannot be changed on its own line is refused. The caller reads the result again before it is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import yaml

from aiagent_coordinator.config.source import KeyPath, dotted, parse_source
from aiagent_coordinator.config.words import Value, plain, trap
from aiagent_coordinator.errors import ConfigError, NotFoundError, ValidationError

_PART = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")
_PLAIN_KEY = re.compile(r"[A-Za-z][\w.-]*\Z", re.ASCII)
#: One level of a block.
_INDENT = "  "
_BOM = "\ufeff"


def find_key(data: Value, written: str) -> KeyPath:
    """Read a key as people write it: `retry.max_attempts`, `projects[0].path`, `projects.shop.path`.

    Args:
        data: What the file says; entries of a list are also found by their `id`.
        written: The key.

    Raises:
        ValidationError: it is no key.
        NotFoundError: it names an entry of a list that is not there.
    """
    parts = list(_PART.finditer(written))
    if not parts or "".join(part[0] for part in parts) != written:
        raise ValidationError(f"{written!r} is no key; write it like retry.max_attempts")
    words = [int(part[1]) if part[1] else part[2] for part in parts]
    key: list[str | int] = []
    while words:
        part, used, data = _step(data, words, dotted(tuple(key)))
        key.append(part)
        words = words[used:]
    return tuple(key)


def _step(data: Value, words: list[int | str], around: str) -> tuple[int | str, int, Value]:
    """Take one step into the data: the key's part, how many words it took, what is there."""
    if isinstance(data, list):
        for used in range(len(words), 0, -1):
            name = words[0] if used == 1 else ".".join(str(word) for word in words[:used])
            for index, item in enumerate(data):
                if index == name or (isinstance(item, dict) and item.get("id") == name):
                    return index, used, item
        raise NotFoundError(f"{around} has no entry {words[0]}")
    if isinstance(data, dict):
        # ids may hold dots: the longest name that is there is meant
        for used in range(len(words), 0, -1):
            name = ".".join(str(word) for word in words[:used])
            if name in data:
                return name, used, data[name]
    return words[0], 1, None


def renderings(text: str) -> tuple[str, ...]:
    """The ways a word of the command line may stand in the file; the first that is accepted is meant."""
    quoted = json.dumps(text, ensure_ascii=False)
    risky = not text or text != text.strip() or "\n" in text or " #" in f" {text}" or trap(text)
    return (quoted,) if risky else (text, quoted)


def with_value(content: str, key: KeyPath, rendered: str, file: str) -> str:
    """Give the content with one value changed or added.

    Args:
        content: The whole text of the file.
        key: Which one.
        rendered: The value as YAML, on one line.
        file: What the file is called.

    Raises:
        ConfigError: the content is no YAML that is accepted, or the value has no line of its own.
    """
    before = parse_source(content, file)
    bom = _BOM if content.startswith(_BOM) else ""
    body = content.removeprefix(_BOM)
    newline = "\r\n" if "\r\n" in body else "\n"
    root = cast("yaml.Node | None", yaml.compose(body, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType] - pyyaml has no types
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        body = _append(body, _block(key, rendered, "", newline), newline)
    else:
        body = _changed(body, root, key, rendered, newline) or _refused(file, key)
    value = parse_source(f"x: {rendered}", file).data["x"]
    if _read(body, file) != _set(before.data, key, value):
        _refused(file, key)
    return bom + body


def save(file: Path, content: str) -> None:
    """Replace a file in one step, its permissions kept; a link stays and what it leads to changes.

    Raises:
        ConfigError: it is no ordinary file, or cannot be written.
    """
    target = file.resolve()
    if not target.is_file():
        raise ConfigError(f"{file}: is no ordinary file; it cannot be changed")
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with draft.open("x", encoding="utf-8", newline="") as stream:
                stream.write(content)
            shutil.copymode(target, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error


def _read(body: str, file: str) -> Value:
    try:
        return parse_source(body, file).data
    except ConfigError:
        return None


def _refused(file: str, key: KeyPath) -> str:
    raise ConfigError(
        f"{file}: {dotted(key)}: cannot be changed on its own line", hint="edit the file by hand"
    )


def _changed(body: str, node: yaml.Node, key: KeyPath, value: str, newline: str) -> str | None:
    """The text with the value in place; None when it has no place of its own."""
    for index, part in enumerate(key):
        rest = key[index:]
        if isinstance(node, yaml.MappingNode):
            inner = _child(node, str(part))
            if inner is None:
                return _inserted(body, node, rest, value, newline)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            inner = _items(node)[part]
        elif isinstance(node, yaml.ScalarNode) and plain(cast("str", node.value)) is None:
            return _replaced(body, node, _flow(rest, value))
        else:
            return None
        node = inner
    return _replaced(body, node, value)


def _replaced(body: str, node: yaml.Node, value: str) -> str | None:
    start, end = node.start_mark, node.end_mark
    in_block = isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style
    if start.line != end.line or in_block:
        return None
    gap = " " if start.index == end.index and body[start.index - 1] == ":" else ""
    return body[: start.index] + gap + value + body[end.index :]


def _inserted(
    body: str, node: yaml.MappingNode, key: KeyPath, value: str, newline: str
) -> str | None:
    pairs = _pairs(node)
    if node.flow_style:
        at = node.end_mark.index - 1
        comma = ", " if pairs else ""
        return f"{body[:at].rstrip()}{comma}{_flow_pair(key, value)}{body[at:]}"
    indent = " " * pairs[0][0].start_mark.column
    lines = body.splitlines(keepends=True)
    at = _last_line(node) + 1
    added = _block(key, value, indent, newline)
    return _append("".join(lines[:at]), added, newline) + "".join(lines[at:])


def _append(body: str, added: str, newline: str) -> str:
    gap = newline if body and not body.endswith("\n") else ""
    return f"{body}{gap}{added}"


def _last_line(node: yaml.Node) -> int:
    """The line where a node's own text ends; comments behind it are not its own."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        name, inner = _pairs(node)[-1]
        return max(name.end_mark.line, _last_line(inner))
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return _last_line(_items(node)[-1])
    end = node.end_mark
    starts_later = end.column == 0 and end.line > node.start_mark.line
    return end.line - 1 if starts_later else end.line


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    return cast("list[tuple[yaml.ScalarNode, yaml.Node]]", node.value)


def _items(node: yaml.SequenceNode) -> list[yaml.Node]:
    return cast("list[yaml.Node]", node.value)


def _child(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((inner for key, inner in _pairs(node) if key.value == name), None)


def _block(key: KeyPath, value: str, indent: str, newline: str) -> str:
    lines = [f"{indent}{_INDENT * level}{_name(part)}:" for level, part in enumerate(key)]
    return f"{newline.join(lines)} {value}{newline}"


def _flow_pair(key: Sequence[str | int], value: str) -> str:
    inner = value if len(key) == 1 else _flow(key[1:], value)
    return f"{_name(key[0])}: {inner}"


def _flow(key: Sequence[str | int], value: str) -> str:
    return f"{{{_flow_pair(key, value)}}}"


def _name(part: str | int) -> str:
    text = str(part)
    is_plain = _PLAIN_KEY.match(text) and isinstance(plain(text), str) and not trap(text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _set(data: Value, key: KeyPath, value: Value) -> Value:
    """The data as it must be read afterwards."""
    if not key:
        return value
    part, rest = key[0], key[1:]
    if isinstance(data, list) and isinstance(part, int):
        return [_set(item, rest, value) if n == part else item for n, item in enumerate(data)]
    known = data if isinstance(data, dict) else {}
    return {**known, str(part): _set(known.get(str(part)), rest, value)}
