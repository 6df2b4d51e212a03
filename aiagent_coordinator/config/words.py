"""What an unquoted word of YAML means, and which words are refused because readers disagree."""

from __future__ import annotations

import re
from typing import TypeAlias

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

#: Plain words that YAML 1.1 and 1.2, or two readers of one version, take for different things.
_TRAPS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i:yes|on|y)\Z"), 'write true, or "{}" in quotes for the word'),
    (re.compile(r"(?i:no|off|n)\Z"), 'write false, or "{}" in quotes for the word'),
    (re.compile(r"[-+]?\d+(:[0-5]?\d)+(\.\d*)?\Z"), 'YAML takes it for a base-60 number; write "{}" in quotes'),
    (re.compile(r"[-+]?0[\d_]+\Z"), 'YAML may take it for octal; write it without the leading 0, or "{}" in quotes'),
    (re.compile(r"[-+]?0[xXoObB][\da-fA-F_]+\Z"), 'write it as a decimal number, or "{}" in quotes'),
    (re.compile(r"[-+]?\d+_[\d_]*(\.\d*)?\Z"), 'write it without underscores, or "{}" in quotes'),
    (re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z"), 'write it without an exponent, or "{}" in quotes'),
    (re.compile(r"[-+]?\.(?i:inf|nan)\Z"), 'write a finite number, or "{}" in quotes'),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?\Z"), 'YAML takes it for a date; write "{}" in quotes'),
    (re.compile(r"(=|<<)\Z"), 'has a meaning of its own in YAML; write "{}" in quotes'),
)  # fmt: skip
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,30})\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9]\d{0,30})?\.\d+\Z|[-+]?(0|[1-9]\d{0,30})\.\Z")
_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def trap(text: str) -> str | None:
    """Say why a plain word is refused, or None where every YAML reads it alike."""
    for pattern, advice in _TRAPS:
        if pattern.match(text):
            return f"{text} is read differently by different YAML versions; {advice.format(text)}"
    return None


def plain(text: str) -> Value:
    """The value of an unquoted word: null, true, false, a decimal number, else text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text
