"""The bridge as a CLI sees it, and as the server sees it, while that server comes and goes."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.wire import bridge as bridge_module
from support.scripted import PATIENCE_SECONDS, ScriptedServer, until

Json = dict[str, Any]

HELLO = "notifications/dev.aiagent-coordinator/hello"
RESTARTING = "the coordinator is restarting, call again"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25"},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class Cli:
    """What an agent's CLI does with the bridge: writes lines, reads lines."""

    def __init__(self, run: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(run / "bridge.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.rest = b""

    def say(self, *messages: Json) -> None:
        self.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        self.stdin.flush()

    def call(self, call_id: int | str, do: str = "answer", **params: Any) -> None:
        params = {"name": "tool", "arguments": {"do": do}, **params}
        self.say({"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params})

    def hear(self) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        pieces = [self.rest]
        while b"\n" not in pieces[-1]:
            ready, _, _ = select.select(
                [self.stdout], [], [], max(0.0, deadline - time.monotonic())
            )
            assert ready, "the bridge said nothing"
            data = os.read(self.stdout.fileno(), 1 << 20)
            assert data, "the bridge closed its output"
            pieces.append(data)
        line, _, self.rest = b"".join(pieces).partition(b"\n")
        return json.loads(line)

    def shake_hands(self) -> None:
        self.say(INITIALIZE)
        assert self.hear()["id"] == 0
        self.say(INITIALIZED)

    def hear_nothing_but(self, call_id: int | str) -> Json:
        """Call once more and give the answer: whatever was said before would come first."""
        self.call(call_id)
        heard = self.hear()
        assert heard.get("id") == call_id, heard
        return heard

    def end(self) -> None:
        self.stdin.close()
        self.process.wait(PATIENCE_SECONDS)


def write_spec(run: Path, socket: Path, **server: Any) -> None:
    spec = {"run_id": "run_1", "server": {"socket": str(socket), "ours": True, **server}}
    (run / "spec.new").write_text(json.dumps(spec))
    (run / "spec.new").replace(run / "spec.json")


@pytest.fixture
def run(short_dir: Path) -> Path:
    """A run directory as far as the bridge knows it."""
    run = short_dir / "run"
    run.mkdir()
    shutil.copy(bridge_module.__file__, run / "bridge.py")
    (run / "token").write_text("sess_secret\n")
    write_spec(run, short_dir / "s.sock")
    return run


@pytest.fixture
def server(short_dir: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(short_dir) as server:
        yield server


@pytest.fixture
def cli(run: Path) -> Iterator[Callable[[], Cli]]:
    """Starts the bridge once the test has prepared what it finds."""
    started: list[Cli] = []

    def start() -> Cli:
        started.append(Cli(run))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(PATIENCE_SECONDS)
        one.stdout.close()
        try:
            one.stdin.close()
        except BrokenPipeError:
            pass


def structured(answer: Json) -> Json:
    return answer["result"]["structuredContent"]


def is_tool_error(answer: Json, text: str) -> bool:
    return answer["result"] == {"content": [{"type": "text", "text": text}], "isError": True}


def test_the_first_line_of_a_connection_says_whose_it_is(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.shake_hands()
    agent.call("seven")
    assert structured(agent.hear())["id"] == "seven"
    hello, *rest = server.frames()
    assert hello["method"] == HELLO
    assert len(hello["params"].pop("nonce")) == 16
    assert hello["params"] == {"v": 1, "run": "run_1", "token": "sess_secret", "resend": []}
    assert [frame["method"] for frame in rest] == [
        "initialize",
        "notifications/initialized",
        "tools/call",
    ]


def test_a_call_in_flight_survives_the_death_of_the_server(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start("--do", '{"tool": "die"}')
    agent = cli()
    agent.shake_hands()
    call = {
        "jsonrpc": "2.0",
        "id": 5,
        "method": "tools/call",
        "params": {"name": "tool", "arguments": {"a": "é"}},
    }
    agent.say(call)
    server.wait()
    server.record.unlink()
    server.start()
    heard = [agent.hear(), agent.hear()]
    assert {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"} in heard
    assert [structured(answer)["arguments"] for answer in heard if answer.get("id") == 5] == [
        {"a": "é"}
    ]
    hello, initialize, initialized, again = server.frames()
    assert hello["params"]["resend"] == [5]
    assert initialize["id"].startswith("bridge-")
    assert initialize | {"id": 0} == INITIALIZE
    assert initialized == INITIALIZED
    assert again == call
    agent.hear_nothing_but(6)


def test_the_nonce_stays_the_same_for_the_life_of_the_bridge(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.hear_nothing_but(1)
    server.kill()
    server.start()
    agent.hear_nothing_but(2)
    nonces = [frame["params"]["nonce"] for frame in server.frames() if frame["method"] == HELLO]
    assert len(nonces) == 2
    assert len(set(nonces)) == 1


def test_a_call_made_during_the_outage_is_sent_once_and_not_named_as_a_repetition(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.shake_hands()
    agent.hear_nothing_but(1)
    server.kill()
    agent.call(2)
    agent.call("3")
    server.record.unlink()
    server.start()
    heard = [agent.hear() for _ in range(3)]
    assert sorted(str(answer["id"]) for answer in heard if "id" in answer) == ["2", "3"]
    hello, *_ = server.frames()
    assert hello["params"]["resend"] == []
    assert [frame["id"] for frame in server.frames() if frame["method"] == "tools/call"] == [2, "3"]


def test_the_bridge_may_be_there_before_the_server(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    agent = cli()
    agent.say(INITIALIZE)
    server.start()
    assert agent.hear()["result"]["serverInfo"]["name"] == "scripted"
    agent.say(INITIALIZED)
    agent.hear_nothing_but(1)
    methods = [frame["method"] for frame in server.frames()]
    assert methods == [HELLO, "initialize", "notifications/initialized", "tools/call"]


@pytest.mark.parametrize("ours", [True, False])
def test_an_unanswered_initialize_is_sent_again_under_its_own_id(
    *, ours: bool, run: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, ours=ours)
    server.start("--mute", "/nonexistent")
    agent = cli()
    agent.say(INITIALIZE)
    until(lambda: bool(server.frames()))
    server.kill()
    server.record.unlink()
    server.start()
    assert agent.hear()["result"]["serverInfo"]["name"] == "scripted"
    *hello, initialize = server.frames()
    assert [frame["params"]["resend"] for frame in hello] == ([[]] if ours else [])
    assert initialize == INITIALIZE


def test_a_client_without_handshake_has_nothing_replayed(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start("--do", '{"tool": "die"}')
    agent = cli()
    agent.call(1, do="")
    server.wait()
    server.record.unlink()
    server.start()
    assert agent.hear()["id"] == 1
    assert [frame["method"] for frame in server.frames()] == [HELLO, "tools/call"]
    agent.hear_nothing_but(2)


def test_a_cancelled_call_is_not_sent_again(server: ScriptedServer, cli: Callable[[], Cli]) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="never")
    agent.call(2, do="never")
    until(lambda: len(server.frames()) == 3)
    agent.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
    until(lambda: len(server.frames()) == 4)
    server.kill()
    agent.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}})
    agent.call(3)
    agent.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}})
    server.record.unlink()
    server.start()
    agent.hear_nothing_but(4)
    assert [frame.get("id") for frame in server.frames()] == [None, 4]
    assert server.frames()[0]["params"]["resend"] == []


def test_half_an_answer_counts_as_none(server: ScriptedServer, cli: Callable[[], Cli]) -> None:
    server.start("--do", '{"tool": "half"}')
    agent = cli()
    agent.call(1, do="")
    server.wait()
    server.start()
    assert structured(agent.hear())["id"] == 1
    agent.hear_nothing_but(2)


def test_an_answer_said_just_before_death_is_delivered_and_its_call_not_repeated(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="answer-and-die")
    server.wait()
    assert structured(agent.hear())["id"] == 1
    server.record.unlink()
    server.start()
    agent.hear_nothing_but(2)
    assert [frame.get("id") for frame in server.frames()] == [None, 2]


def test_what_waits_too_long_for_a_server_is_answered_by_the_bridge(
    run: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, hold_seconds=0.3)
    server.start()
    agent = cli()
    agent.shake_hands()
    agent.call("sent", do="never")
    until(lambda: len(server.frames()) == 4)
    server.kill()
    agent.call("held")
    agent.say({"jsonrpc": "2.0", "id": "list", "method": "tools/list"})
    heard = {answer["id"]: answer for answer in (agent.hear() for _ in range(3))}
    assert is_tool_error(heard["sent"], RESTARTING)
    assert is_tool_error(heard["held"], RESTARTING)
    assert heard["list"]["error"]["message"] == RESTARTING
    server.record.unlink()
    server.start()
    assert agent.hear()["method"] == "notifications/tools/list_changed"
    agent.hear_nothing_but("next")
    assert [frame.get("id") for frame in server.frames()][2:] == [None, "next"]


def test_a_server_that_accepts_and_says_nothing_counts_as_away_and_its_late_answer_is_dropped(
    run: Path, short_dir: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, hold_seconds=0.3)
    server.start("--mute", str(short_dir / "go"))
    agent = cli()
    agent.call(1)
    assert is_tool_error(agent.hear(), RESTARTING)
    (short_dir / "go").touch()
    agent.hear_nothing_but(2)
    until(lambda: [frame.get("id") for frame in server.frames()] == [None, 1, 2])


def test_a_server_that_is_there_may_take_longer_than_the_bridge_holds(
    run: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, hold_seconds=0.2)
    server.start()
    agent = cli()
    agent.hear_nothing_but(1)
    agent.call(2, do="delay:0.6")
    assert structured(agent.hear())["id"] == 2


def test_a_foreign_server_gets_no_hello_and_nothing_twice(
    run: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, ours=False)
    (run / "token").unlink()
    server.start("--foreign")
    agent = cli()
    agent.shake_hands()
    agent.call(1, do="never")
    agent.say(
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "t", "arguments": {"do": "never"}},
        }
    )
    until(lambda: len(server.frames()) == 4)
    assert server.frames()[0] == INITIALIZE
    server.kill()
    lost = [agent.hear(), agent.hear()]
    assert [answer["id"] for answer in lost] == [1, 2]
    assert all(
        "look whether it took effect" in answer["result"]["content"][0]["text"] for answer in lost
    )
    assert all(answer["result"]["isError"] for answer in lost)
    agent.call(3)
    server.record.unlink()
    server.start("--foreign")
    heard = [agent.hear(), agent.hear()]
    assert [structured(answer)["id"] for answer in heard if "id" in answer] == [3]
    initialize, initialized, held = server.frames()
    assert initialize["id"].startswith("bridge-")
    assert initialized == INITIALIZED
    assert held["id"] == 3


def test_a_long_call_is_kept_alive_with_growing_progress_over_an_outage(
    run: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, keepalive_seconds=0.05)
    server.start()
    agent = cli()
    agent.call("no token", do="never")
    agent.call(1, do="progress:7", _meta={"progressToken": "tok"})
    heard = [agent.hear() for _ in range(4)]
    server.kill()
    heard += [agent.hear() for _ in range(3)]
    assert {message["method"] for message in heard} == {"notifications/progress"}
    assert {message["params"]["progressToken"] for message in heard} == {"tok"}
    values = [message["params"]["progress"] for message in heard]
    assert values == sorted(set(values))
    assert 7 in values
    assert values[-1] > 7


def test_an_answered_call_is_no_longer_kept_alive(
    run: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    write_spec(run, server.socket, keepalive_seconds=0.05)
    server.start()
    agent = cli()
    agent.call(1, _meta={"progressToken": 1})
    assert structured(agent.hear())["id"] == 1
    agent.call(2, do="delay:0.3")
    assert structured(agent.hear())["id"] == 2


def test_an_answer_to_a_question_of_a_dead_server_is_dropped(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="ask")
    assert agent.hear()["method"] == "ping"
    assert agent.hear()["id"] == 1
    pong: Json = {"jsonrpc": "2.0", "id": 77, "result": {}}
    agent.say(pong)
    until(lambda: pong in server.frames())
    agent.call(2, do="ask")
    assert [agent.hear()["id"], agent.hear()["id"]] == [77, 2]
    server.kill()
    server.record.unlink()
    server.start()
    agent.hear_nothing_but(3)
    agent.say(pong)
    agent.hear_nothing_but(4)
    assert pong not in server.frames()


def test_each_connection_reads_anew_where_the_server_is_and_who_calls(
    run: Path, short_dir: Path, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.hear_nothing_but(1)
    server.kill()
    server.record.unlink()
    (run / "spec.json").unlink()
    server.socket = short_dir / "elsewhere.sock"
    server.start()
    (run / "token").write_text("sess_other")
    write_spec(run, server.socket)
    agent.hear_nothing_but(2)
    assert server.frames()[0]["params"]["token"] == "sess_other"


def test_messages_of_fifteen_mebibytes_pass_both_ways(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="huge")
    assert len(structured(agent.hear())["text"]) == 15 << 20
    text = "x" * (15 << 20)
    agent.call(2, do='raw:{"fine": 1}', arguments={"do": 'raw:{"fine": 1}', "text": text})
    assert agent.hear()["result"] == {"fine": 1}
    assert server.frames()[-1]["params"]["arguments"]["text"] == text


def test_what_is_larger_than_a_message_may_be_gets_an_error(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="over")
    assert is_tool_error(agent.hear(), "the answer is larger than 16 MiB")
    agent.call(2, arguments={"text": "x" * (16 << 20)})
    heard = agent.hear()
    assert (heard["id"], heard["error"]["code"]) == (None, -32600)
    agent.hear_nothing_but(3)


def test_a_client_that_writes_much_before_it_reads_is_served_in_the_end(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    text = "x" * (1 << 20)
    count = 40

    def write() -> None:
        for index in range(count):
            agent.call(index, arguments={"text": text})

    writer = threading.Thread(target=write)
    writer.start()
    # The bridge must stop taking what it cannot pass on: nobody reads the answers yet.
    until(lambda: len(server.frames()) >= 5)
    heard = [agent.hear()["id"] for _ in range(count)]
    writer.join(PATIENCE_SECONDS)
    assert heard == list(range(count))


def test_what_is_no_message_gets_an_error_whether_the_server_is_there_or_not(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    agent = cli()
    for _ in range(2):
        agent.stdin.write(b'\n  \nno message\n[{"jsonrpc":"2.0","id":1,"method":"x"}]\n{"id":7}\n')
        agent.stdin.flush()
        for expected in (None, None, 7):
            heard = agent.hear()
            assert (heard["id"], heard["error"]["code"]) == (expected, -32600)
        if server.process is None:
            server.start()
        agent.hear_nothing_but(1)
    assert [frame["method"] for frame in server.frames()] == [HELLO, "tools/call", "tools/call"]


def test_garbage_from_the_server_does_not_reach_the_cli(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="garbage")
    agent.hear_nothing_but(2)


def test_a_cli_that_closes_our_input_still_gets_what_was_asked(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode())
    agent.end()
    assert agent.hear()["id"] == 1
    assert agent.process.returncode == 0


@pytest.mark.parametrize("is_up", [True, False])
def test_a_cli_that_closes_our_input_ends_the_bridge_even_if_nobody_answers(
    *, is_up: bool, server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    server.start()
    agent = cli()
    agent.call(1, do="never")
    until(lambda: len(server.frames()) == 2)
    if not is_up:
        server.kill()
    agent.end()
    assert agent.process.returncode == 0


def test_a_cli_that_is_gone_ends_the_bridge(cli: Callable[[], Cli]) -> None:
    agent = cli()
    agent.stdout.close()
    assert agent.process.wait(PATIENCE_SECONDS) == 0


def test_sigterm_ends_the_bridge(server: ScriptedServer, cli: Callable[[], Cli]) -> None:
    server.start()
    agent = cli()
    agent.hear_nothing_but(1)
    agent.process.terminate()
    assert agent.process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_every_one_of_a_hundred_calls_gets_one_answer_while_the_server_dies_at_random(
    server: ScriptedServer, cli: Callable[[], Cli]
) -> None:
    chance = random.Random()
    server.start()
    agent = cli()
    agent.shake_hands()
    done = threading.Event()
    deaths = 0

    def disturb() -> None:
        nonlocal deaths
        while not done.wait(chance.uniform(0.0, 0.4)):
            server.kill()
            deaths += 1
            done.wait(chance.uniform(0.0, 0.05))
            server.start()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for index in range(100):
            call_id = index if index % 2 else f"call-{index}"
            do = chance.choice(["answer", "delay:0.01", "delay:0.05"])
            agent.call(call_id, arguments={"do": do, "n": index})
            heard = agent.hear()
            while heard.get("method") == "notifications/tools/list_changed":
                heard = agent.hear()
            assert heard["id"] == call_id
            assert structured(heard)["arguments"]["n"] == index
    finally:
        done.set()
        disturber.join(PATIENCE_SECONDS)
    agent.stdin.close()
    left = agent.rest + agent.stdout.read()
    assert all("id" not in json.loads(line) for line in left.splitlines())
    assert deaths > 3
    first: dict[tuple[int, int], str] = {}
    for entry in server.entries():
        first.setdefault((entry["pid"], entry["conn"]), entry["frame"]["method"])
    assert set(first.values()) == {HELLO}
