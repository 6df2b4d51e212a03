"""Faults in any order, each between any two others: whatever happens, every run ends once.

`AIAGENT_STEPS=10000 pytest -s tests/faults/test_any_order.py` is the long form; `AIAGENT_STEPS` is how
many steps are made at least. It prints them.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from support.disk import small_disk
from support.house import until
from support.storm import AGENTS, Storm, storm

STEPS = int(os.environ.get("AIAGENT_STEPS", "90"))
#: Steps of one house; then all must come to its end.
AT_A_STRETCH = 20
HAS_DISKS = os.geteuid() == 0 and shutil.which("mount") is not None
ROLES = st.sampled_from(["serve", "coordinate"])
ENDS = st.sampled_from([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])

STAYS_DOWN = st.sampled_from([False, False, True])


class AnyOrder(RuleBasedStateMachine):
    """One house and everything that can happen to it; checked after each step and at the end."""

    made: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aac-")))
            disk = stack.enter_context(small_disk(root / "disk", 64)) if HAS_DISKS else None
            (root / "h").mkdir()
            limits = {"run_timeout": "1h", "silence_timeout": "1h"}
            self.storm: Storm = stack.enter_context(storm(root / "h", disk, **limits))
            for agent in AGENTS:
                self.storm.add(agent)
            self.time_passes()
            self.stack = stack.pop_all()

    @rule()
    def time_passes(self) -> None:
        """Until nothing more happens by itself, or what happens takes long."""
        with suppress(AssertionError):
            until("all is quiet", self.storm.is_quiet, 5)
        self._did("time passes")

    def teardown(self) -> None:
        try:
            self.storm.calm_down()
            self.storm.check_places()
            self.storm.check_ends()
            self.storm.check_folders()
            # a clock that is set makes nobody late
            late = "SELECT id, reason FROM run WHERE reason IN ('timed_out', 'stalled', 'lost')"
            assert not self.storm.rows(late)
            self.storm.go_home()
        except BaseException as error:
            error.add_note("\n".join([*self.storm.said, self.storm.home.log_text()]))
            raise
        finally:
            self.stack.close()

    def _did(self, what: str, *to: object) -> None:
        AnyOrder.made[what] += 1
        self.storm.said.append(" ".join([what, *map(str, to)]))
        self.storm.check()

    @rule(agent=st.sampled_from(sorted(AGENTS)))
    def spawn(self, agent: str) -> None:
        self._did("spawn", agent, self.storm.add(agent))

    @precondition(lambda self: self.storm.open_tasks())
    @rule(which=st.integers(0, 9), code=st.sampled_from([0, 0, 3]))
    def exit(self, which: int, code: int) -> None:
        tasks = self.storm.open_tasks()
        task_id = tasks[which % len(tasks)]
        self.storm.open_gate(task_id, code)
        self._did("exit", task_id, code)

    @precondition(lambda self: "serve" in self.storm.up and self.storm.open_tasks())
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        tasks = self.storm.open_tasks()
        self.storm.cancel(tasks[which % len(tasks)])
        self._did("cancel", tasks[which % len(tasks)])

    @precondition(lambda self: "serve" in self.storm.up and self.storm.live_runs())
    @rule(which=st.integers(0, 9))
    def stop(self, which: int) -> None:
        if runs := self.storm.live_runs():
            self.storm.stop_run(runs[which % len(runs)])
            self._did("stop", runs[which % len(runs)])

    @precondition(lambda self: self.storm.live_runs())
    @rule(which=st.integers(0, 9))
    def kill_shim(self, which: int) -> None:
        if runs := self.storm.live_runs():
            self.storm.kill_shim(runs[which % len(runs)])
            self._did("kill shim", runs[which % len(runs)])

    @precondition(lambda self: "coordinate" in self.storm.up)
    @rule(how=ENDS, stays=STAYS_DOWN)
    def kill_coordinator(self, how: signal.Signals, *, stays: bool) -> None:
        self.storm.end("coordinate", how)
        if not stays:
            self.storm.start("coordinate")
        self._did("kill coordinator", how.name, "down" if stays else "again")

    @precondition(lambda self: "coordinate" in self.storm.up)
    @rule()
    def stop_agents_too(self) -> None:
        self.storm.end("coordinate", signal.SIGUSR1)
        self._did("stop with agents")

    @precondition(lambda self: "coordinate" not in self.storm.up)
    @rule()
    def coordinator_up(self) -> None:
        self.storm.start("coordinate")
        self._did("coordinator up")

    @precondition(lambda self: "serve" in self.storm.up)
    @rule(how=ENDS, stays=STAYS_DOWN)
    def server_down(self, how: signal.Signals, *, stays: bool) -> None:
        self.storm.end("serve", how)
        if not stays:
            self.storm.start("serve")
        self._did("server down", how.name, "down" if stays else "again")

    @precondition(lambda self: "serve" not in self.storm.up)
    @rule()
    def server_up(self) -> None:
        self.storm.start("serve")
        self._did("server up")

    @precondition(
        lambda self: self.storm.disk and not self.storm.is_full and self.storm.live_runs()
    )
    @rule()
    def disk_full(self) -> None:
        self.storm.fill()
        self._did("disk full")

    @precondition(lambda self: self.storm.is_full)
    @rule()
    def disk_free(self) -> None:
        self.storm.free()
        self._did("disk free")

    @precondition(lambda self: self.storm.live_runs())
    @rule(role=ROLES, days=st.sampled_from([-1, 1]))
    def clock_jump(self, role: str, days: int) -> None:
        self.storm.jump(role, days)
        self._did("clock jump", role, days)

    @rule(max_concurrent=st.integers(1, 3), broken=st.booleans())
    def reload(self, max_concurrent: int, *, broken: bool) -> None:
        self.storm.reload(max_concurrent, broken=broken)
        self._did("reload", max_concurrent, broken)


@pytest.mark.timeout(300 + STEPS * 10)
def test_faults_in_any_order_leave_one_end_of_every_run_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
):
    """At most one live run per line of work, each run ends once, each end is told once, no process stays."""
    AnyOrder.made.clear()
    is_short = "AIAGENT_STEPS" not in os.environ
    while AnyOrder.made.total() < STEPS:
        left = STEPS - AnyOrder.made.total()
        run_state_machine_as_test(
            AnyOrder,
            settings=settings(
                max_examples=max(1, left // AT_A_STRETCH),
                stateful_step_count=AT_A_STRETCH,
                deadline=None,
                derandomize=is_short,
                database=None,
                # a story of processes does not repeat itself exactly: what failed first is told
                phases=[Phase.generate],
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    with capsys.disabled():
        told = ", ".join(f"{what} {count}" for what, count in sorted(AnyOrder.made.items()))
        print(f"\n{AnyOrder.made.total()} steps, 0 bad: {told}")
