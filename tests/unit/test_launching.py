"""What a launch is computed from."""

from __future__ import annotations

import pytest

from aiagent_coordinator.pipeline.launching import hold_of


@pytest.mark.parametrize(
    ("lets_a_call_take", "held"), [(60.0, 45.0), (120.0, 105.0), (600.0, 300.0), (10.0, 5.0)]
)
def test_a_call_without_a_server_is_held_as_long_as_its_cli_waits_and_not_for_ever(
    lets_a_call_take: float, held: float
):
    """So that a server that is long in coming back costs agents no call."""
    assert hold_of(lets_a_call_take) == held
