"""Text of others among ours: characters that a terminal obeys are shown, not obeyed."""

from __future__ import annotations


def visible(text: str) -> str:
    """Make control characters visible, so that one record stays one line and no terminal obeys it."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
