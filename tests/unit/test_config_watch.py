"""The file while the program runs: good changes are given on, bad ones told, the last good one stays."""

from __future__ import annotations

from pathlib import Path

import anyio

from aiagent_coordinator.config import Loaded, load_settings
from aiagent_coordinator.config.watch import Nudge, Origin, changes, watch
from aiagent_coordinator.errors import ConfigError

POLL_SECONDS = 0.02


def write(file: Path, content: str) -> None:
    draft = file.with_name("draft")
    draft.write_text(content, "utf-8")
    draft.replace(file)


async def test_a_change_is_given_an_invalid_one_told_and_what_says_the_same_is_not(tmp_path: Path) -> None:  # fmt: skip
    file = tmp_path / "coordinator.yaml"
    write(file, "max_concurrent: 1\n")
    loaded = load_settings(file, environment={})
    told: Loaded | ConfigError | None = None
    with anyio.fail_after(30):
        seen = watch(loaded, Origin(), poll_seconds=POLL_SECONDS)
        async with anyio.create_task_group() as tasks:
            # a comment alone changes no setting: what is told first is the mistake
            same = "max_concurrent: 1 # the same\n"
            tasks.start_soon(_later, file, same, "max_concurrent: many\n")
            told = await anext(seen)
        assert isinstance(told, ConfigError)
        assert "max_concurrent: expected a whole number" in told.message
        write(file, "max_concurrent: 2\n")
        fresh = await anext(seen)
        assert isinstance(fresh, Loaded)
        assert fresh.settings.max_concurrent == 2
        file.unlink()
        assert isinstance(await anext(seen), ConfigError)
        write(file, "max_concurrent: 3\n")
        fresh = await anext(seen)
        assert isinstance(fresh, Loaded)
        assert fresh.settings.max_concurrent == 3
        await seen.aclose()


async def _later(file: Path, *contents: str) -> None:
    for content in contents:
        await anyio.sleep(15 * POLL_SECONDS)
        write(file, content)


async def test_without_a_file_only_a_nudge_leads_to_anything() -> None:
    loaded, nudge = load_settings(None, environment={}), Nudge()
    seen = watch(loaded, Origin(), nudge=nudge, poll_seconds=POLL_SECONDS)
    nudge.now()
    with anyio.fail_after(30):
        again = await anext(seen)
    assert isinstance(again, Loaded)
    assert again.settings == loaded.settings
    with anyio.move_on_after(POLL_SECONDS * 10) as waited:
        await anext(seen)
    assert waited.cancelled_caught


async def test_a_nudge_has_the_file_read_at_once_whether_it_changed_or_not(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.yaml"
    write(file, "max_concurrent: 1\n")
    loaded, nudge = load_settings(file, environment={}), Nudge()
    seen = watch(loaded, Origin(), nudge=nudge, poll_seconds=3600)
    with anyio.fail_after(30):
        nudge.now()
        same = await anext(seen)
        assert isinstance(same, Loaded)
        assert same.settings == loaded.settings
        write(file, "max_concurrent: 2\n")
        nudge.now()
        fresh = await anext(seen)
        assert isinstance(fresh, Loaded)
        assert fresh.settings.max_concurrent == 2
        write(file, "max_concurrent: many\n")
        nudge.now()
        assert isinstance(await anext(seen), ConfigError)


def test_a_flag_still_wins_over_a_changed_file(tmp_path: Path) -> None:
    async def story() -> None:
        file = tmp_path / "coordinator.yaml"
        write(file, "max_concurrent: 1\n")
        origin = Origin(overrides={"max_concurrent": "7"})
        loaded = load_settings(file, environment={}, overrides=origin.overrides)
        fresh: Loaded | ConfigError | None = None
        with anyio.fail_after(30):
            seen = watch(loaded, origin, poll_seconds=POLL_SECONDS)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_later, file, "max_concurrent: 2\nmax_finishing: 5\n")
                fresh = await anext(seen)
            assert isinstance(fresh, Loaded)
            assert (fresh.settings.max_concurrent, fresh.settings.max_finishing) == (7, 5)
            await seen.aclose()

    anyio.run(story)


def test_changes_are_named_with_when_they_count(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.yaml"
    write(file, "agents: {a: {provider: x}}\nstop_grace_seconds: 1\nsocket: /a\n")
    before = load_settings(file, environment={}).settings
    write(file, "agents: {a: {provider: z}, b: {provider: x}}\nsocket: /b\nmax_concurrent: 9\n")
    after = load_settings(file, environment={}).settings
    found = changes(before, after)
    assert "agents.b.provider" in found["live"]
    assert "agents.a.provider" in found["live"]
    assert "max_concurrent" in found["live"]
    assert found["next start"] == ("socket", "stop_grace_seconds")
    assert changes(before, before) == {}
