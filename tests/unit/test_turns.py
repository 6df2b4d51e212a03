"""What a program that is driven live used, over all its turns."""

from __future__ import annotations

import json

import pytest

from aiagent_coordinator.providers.dialects import read_all
from aiagent_coordinator.providers.events import Used


@pytest.mark.parametrize(
    ("dialect", "expected"), [("claude-stream", (50, 15)), ("qwen-stream", (30, 5))]
)
def test_the_turns_of_claude_add_up_and_those_of_qwen_count_from_the_beginning(
    dialect: str, expected: tuple[int, int]
):
    turns = [(20, 10, 0.1), (30, 5, 0.25)]
    lines = [
        {
            "type": "result",
            "subtype": "success",
            "usage": {"input_tokens": read, "output_tokens": written},
            "total_cost_usd": cost,
        }
        for read, written, cost in turns
    ]
    out = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    last = [one for one in read_all(dialect, [out]) if isinstance(one, Used)][-1]
    assert (last.fresh, last.out) == expected
    assert last.is_total
