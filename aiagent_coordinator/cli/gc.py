"""`gc`: remove the folders of runs that are over, by age and size. Works with and without a server."""

from __future__ import annotations

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.messages import text


@click.command(help=text("help.gc"))
@click.option("--dry-run", is_flag=True, help=text("help.option.dry_run"))
@options.as_json
@options.common
def gc(dry_run: bool, as_json: bool) -> None:
    """Remove what is too old or too much, or say what would go."""
    from aiagent_coordinator.clock import SystemClock
    from aiagent_coordinator.config import load_settings
    from aiagent_coordinator.config.find import find_config
    from aiagent_coordinator.coordinator import retention
    from aiagent_coordinator.providers.catalog import load_catalog

    given = options.current()
    loaded = load_settings(
        find_config(given.config), overrides=given.overrides, known_providers=tuple(load_catalog())
    )
    kept = loaded.settings.retention
    now = SystemClock().now().timestamp()
    runs = loaded.state_dir.runs
    ended = retention.ended_runs(runs, now)
    going = retention.choose(ended, retention.Retention(kept.run_age, kept.run_size), now)
    gone = going if dry_run else retention.remove(runs, going)
    if as_json:
        output.json_result(
            {
                "dry_run": dry_run,
                "ended": len(ended),
                "removed": [{"run_id": one.name, "bytes": one.size_bytes} for one in gone],
            }
        )
        return
    for one in gone:
        output.result(one.name)
    size = f"{sum(one.size_bytes for one in gone) / 1000**2:.1f}"
    kept_count = len(ended) - len(gone)
    output.result(
        text(
            "gc.would" if dry_run else "gc.done",
            count=len(gone),
            megabytes=size,
            kept=kept_count,
        )
    )
