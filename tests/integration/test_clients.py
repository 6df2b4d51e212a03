"""Our two clients against a server that answers, refuses, hangs, lies and dies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator import __version__, errors
from aiagent_coordinator.coordinator.client import Client, connect
from aiagent_coordinator.wire.client import BlockingClient
from aiagent_coordinator.wire.protocol import hello_coordinator, hello_person
from support.scripted import PATIENCE_SECONDS, ScriptedServer, until

CALL = "tool"


@pytest.fixture
def server(short_dir: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(short_dir) as server:
        yield server


def blocking(server: ScriptedServer, timeout_seconds: float = PATIENCE_SECONDS) -> BlockingClient:
    return BlockingClient(str(server.socket), hello_person("key"), timeout_seconds)


async def both(server: ScriptedServer, do: str) -> tuple[object, object]:
    """What a call gives, or how it fails, at the one client and at the other."""
    outcomes: list[object] = []
    arguments = {"do": do}
    async with connect(server.socket) as client:
        try:
            outcomes.append(await client.call(CALL, arguments, deadline_seconds=PATIENCE_SECONDS))
        except errors.CoordinatorError as error:
            outcomes.append(error)

    def call() -> object:
        with blocking(server) as client:
            try:
                return client.call(CALL, arguments)
            except errors.CoordinatorError as error:
                return error

    outcomes.append(await anyio.to_thread.run_sync(call))
    return outcomes[0], outcomes[1]


async def test_the_handshake_says_who_calls_and_recognises_our_server(
    server: ScriptedServer,
) -> None:
    server.start()
    async with connect(server.socket, hello=hello_coordinator("tok")) as client:
        assert client.ours
        assert client.server_version == "0.1.0"
        assert client.server.features == {"runs"}
        await client.call(CALL, {})
    hello, initialize, initialized, call = server.frames()
    assert hello == hello_coordinator("tok")
    capability = initialize["params"]["capabilities"]["experimental"]["dev.aiagent-coordinator/1"]
    assert capability == {"protocol": 1, "features": []}
    assert initialized["method"] == "notifications/initialized"
    assert call["params"] == {"name": CALL, "arguments": {}}


def test_the_blocking_client_says_hello_shakes_hands_and_calls(server: ScriptedServer) -> None:
    server.start()
    with blocking(server) as client:
        assert client.server.ours
        assert client.call(CALL, {"a": "é"})["arguments"] == {"a": "é"}
        assert client.call(CALL, {"do": "ask"})["tool"] == CALL
    methods = [frame["method"] for frame in server.frames()]
    assert methods[1:3] == ["initialize", "notifications/initialized"]
    assert server.frames()[0] == hello_person("key")


async def test_a_foreign_server_works_and_is_known_as_foreign(server: ScriptedServer) -> None:
    server.start("--foreign", "--do", json.dumps({CALL: "text"}))
    async with connect(server.socket) as client:
        assert not client.ours
        assert client.server_version == "9.9"
        assert (await client.call(CALL, {"x": 1}))["arguments"] == {"x": 1}
    assert server.frames()[0]["method"] == "initialize"


async def test_a_newer_protocol_is_refused_with_both_versions_and_before_any_call(
    server: ScriptedServer,
) -> None:
    server.start("--protocol", "2")
    with pytest.raises(
        errors.ProtocolError, match=rf"0\.1\.0.* protocol 2.*{__version__}.* protocol 1"
    ):
        async with connect(server.socket):
            pytest.fail("connected")
    with pytest.raises(errors.ProtocolError, match="protocol 2"), blocking(server):
        pytest.fail("connected")
    until(lambda: len(server.frames()) >= 3)
    assert "tools/call" not in [frame["method"] for frame in server.frames()]


ERROR_RESULT = {"isError": True, "content": [{"type": "text", "text": "NOT_FOUND: no task x"}]}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            'error:{"code":-32601,"message":"Method not found: x"}',
            errors.ProtocolError,
            "Method not found",
        ),
        ('error:{"code":-32602,"message":"no name"}', errors.ValidationError, "no name"),
        (
            'error:{"code":1,"message":"m","data":{"code":"LIMIT","hint":"h"}}',
            errors.LimitError,
            "m",
        ),
        ("raw:" + json.dumps(ERROR_RESULT), errors.NotFoundError, "no task x"),
        (
            "raw:"
            + json.dumps(
                {
                    **ERROR_RESULT,
                    "structuredContent": {"error": {"code": "STALE_RUN", "message": "s"}},
                }
            ),
            errors.StaleRunError,
            "s",
        ),
        (
            'raw:{"structuredContent":{"success":false,"error":{"code":"CONFLICT","message":"c"}}}',
            errors.ConflictError,
            "c",
        ),
        (
            'raw:{"structuredContent":{"success":false,"error":"execution_log_not_found"}}',
            errors.NotFoundError,
            "log",
        ),
        ('raw:{"structuredContent":{"success":false}}', errors.ServerError, "did not succeed"),
    ],
)
async def test_refusals_are_raised_by_their_code(
    server: ScriptedServer, answer: str, kind: type[errors.CoordinatorError], message: str
) -> None:
    server.start()
    for outcome in await both(server, answer):
        assert type(outcome) is kind
        assert message in outcome.message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Authorization Error: Tool 'x' requires coordinator privilege", errors.ForbiddenError),
        (
            "Authorization Error: Tool 'invalidate_session' is not registered in authorization system",
            errors.ProtocolError,
        ),
        (
            "Error: Invalid coordinator token. Set MCP_COORDINATOR_TOKEN environment variable.",
            errors.UnauthorizedError,
        ),
        ("Error: Task not found: tsk_1", errors.NotFoundError),
        ("Error: database is locked", errors.ServerError),
        ("", errors.ServerError),
    ],
)
async def test_the_refusals_of_ai_agent_pm_are_understood(
    server: ScriptedServer, text: str, kind: type[errors.CoordinatorError]
) -> None:
    server.start("--foreign")
    result = {"isError": True, "content": [{"type": "text", "text": text}]}
    for outcome in await both(server, "raw:" + json.dumps(result)):
        assert type(outcome) is kind


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            {"structuredContent": {"a": 1}, "content": [{"type": "text", "text": '{"a": 2}'}]},
            {"a": 1},
        ),
        ({"content": [{"type": "text", "text": '{"a": 2}'}]}, {"a": 2}),
        ({"content": [{"type": "text", "text": "[\n\n]"}]}, {"items": []}),
        ({"content": [{"type": "text", "text": "通知があります"}]}, {"text": "通知があります"}),
        ({"content": []}, {"text": ""}),
    ],
)
async def test_answers_are_read_wherever_they_stand(
    server: ScriptedServer, result: Any, expected: Any
) -> None:
    server.start()
    assert await both(server, "raw:" + json.dumps(result)) == (expected, expected)


async def test_no_server_is_said_with_what_to_do(short_dir: Path) -> None:
    server = ScriptedServer(short_dir)
    for path in (server.socket, short_dir / ("x" * 200)):
        with pytest.raises(errors.UnavailableError, match="no server at") as caught:
            async with connect(path):
                pytest.fail("connected")
        assert caught.value.hint == "start it with: aiagent-coordinator"
        with (
            pytest.raises(errors.UnavailableError, match="no server at"),
            BlockingClient(str(path), None),
        ):
            pytest.fail("connected")
    server.start()
    server.kill()  # leaves its socket behind
    with pytest.raises(errors.UnavailableError, match="refused"):
        async with connect(server.socket):
            pytest.fail("connected")


async def test_a_server_that_does_not_shake_hands_in_time_is_unavailable(
    server: ScriptedServer, short_dir: Path
) -> None:
    server.start("--mute", str(short_dir / "never"))
    with pytest.raises(errors.UnavailableError, match="does not answer within"):
        async with connect(server.socket, connect_timeout=0.1):
            pytest.fail("connected")
    with (
        pytest.raises(errors.UnavailableError, match="does not answer within"),
        blocking(server, 0.1),
    ):
        pytest.fail("connected")


async def test_an_error_in_the_body_comes_out_as_itself(server: ScriptedServer) -> None:
    server.start()
    with pytest.raises(KeyError, match="mine"):
        async with connect(server.socket):
            raise KeyError("mine")


async def test_many_calls_are_in_flight_together_and_answers_find_their_call(
    server: ScriptedServer,
) -> None:
    server.start()
    answers: dict[int, object] = {}

    async def call(client: Client, number: int) -> None:
        do = "delay:0.2" if number % 10 == 0 else "answer"
        answers[number] = (await client.call(CALL, {"n": number, "do": do}))["arguments"]["n"]

    with anyio.fail_after(PATIENCE_SECONDS):
        async with connect(server.socket) as client, anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(call, client, number)
    assert answers == {number: number for number in range(200)}
    assert len({entry["conn"] for entry in server.entries()}) == 1


async def test_a_batch_gives_answers_and_refusals_in_the_order_of_its_calls(
    server: ScriptedServer,
) -> None:
    server.start()
    refusal = "raw:" + json.dumps(ERROR_RESULT)
    dos = [
        "answer",
        "delay:0.1",
        refusal,
        "answer",
        'raw:{"structuredContent":{"same":1}}',
        refusal,
    ]
    calls: list[dict[str, object]] = [{"n": number, "do": do} for number, do in enumerate(dos * 20)]
    async with connect(server.socket) as client:
        answers = await client.call_many(CALL, calls)
        assert await client.call_many(CALL, []) == []
    for number, answer in enumerate(answers):
        if number % 6 in {2, 5}:
            assert isinstance(answer, errors.NotFoundError)
        elif number % 6 == 4:
            assert answer == {"same": 1}
        else:
            assert isinstance(answer, dict)
            assert answer["arguments"]["n"] == number


ARGUMENTS: list[dict[str, object]] = [
    {},
    {"text": "},{"},
    {"list": [{"a": 1}, {"b": [{}, {}]}]},
    {"text": 'new\nline \\" },{" '},
    {"text": "half \ud800"},
    {"text": "\u2028é\r"},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
async def test_a_batch_carries_any_arguments_unchanged(
    server: ScriptedServer, arguments: dict[str, object]
) -> None:
    server.start()
    async with connect(server.socket) as client:
        answers = await client.call_many(CALL, [arguments, {"plain": 1}, arguments])
    sent = [
        frame["params"]["arguments"] for frame in server.frames() if frame["method"] == "tools/call"
    ]
    assert sent == [arguments, {"plain": 1}, arguments]
    assert len(answers) == 3


async def test_a_call_past_its_deadline_is_forgotten_and_cancelled(server: ScriptedServer) -> None:
    server.start()
    async with connect(server.socket) as client:
        with pytest.raises(errors.UnavailableError, match="does not answer within"):
            await client.call(CALL, {"do": "delay:0.3"}, deadline_seconds=0.05)
        with pytest.raises(errors.UnavailableError, match="does not answer within"):
            await client.call_many(CALL, [{}, {"do": "never"}], deadline_seconds=0.2)
        # The late answer of the first call comes before this one's and is nobody's.
        assert (await client.call(CALL, {"do": "delay:0.5"}))["arguments"] == {"do": "delay:0.5"}
    cancelled = [frame for frame in server.frames() if frame["method"] == "notifications/cancelled"]
    assert [frame["params"]["requestId"] for frame in cancelled] == [2, 4]


async def test_a_caller_that_is_cancelled_tells_the_server(server: ScriptedServer) -> None:
    server.start()
    async with connect(server.socket) as client:
        with anyio.move_on_after(0.05):
            await client.call(CALL, {"do": "never"})
        await client.call(CALL, {})
    cancelled = [frame for frame in server.frames() if frame["method"] == "notifications/cancelled"]
    assert [frame["params"]["requestId"] for frame in cancelled] == [2]


@pytest.mark.parametrize("do", ["die", "close", "half"])
async def test_all_pending_calls_fail_at_once_when_the_connection_ends(
    server: ScriptedServer, do: str
) -> None:
    server.start()
    failed: list[errors.CoordinatorError] = []

    async def call(client: Client, do: str) -> None:
        with pytest.raises(errors.UnavailableError, match="went away") as caught:
            await client.call(CALL, {"do": do})
        failed.append(caught.value)

    with anyio.fail_after(PATIENCE_SECONDS):
        async with connect(server.socket) as client:
            async with anyio.create_task_group() as tasks:
                for what in ("never", "never", "never", do):
                    tasks.start_soon(call, client, what)
            await client.wait_closed()
            with pytest.raises(errors.UnavailableError, match="went away"):
                await client.call(CALL, {})
    assert len(failed) == 4


@pytest.mark.parametrize("do", ["garbage", "over"])
async def test_what_is_no_message_ends_the_connection_as_a_protocol_error(
    server: ScriptedServer, do: str
) -> None:
    server.start()
    for outcome in await both(server, do):
        assert type(outcome) is errors.ProtocolError
        assert "sent no message" in outcome.message


@pytest.mark.parametrize("do", ["die", "close", "half"])
def test_the_blocking_client_says_that_the_server_went_away(
    server: ScriptedServer, do: str
) -> None:
    server.start()
    with blocking(server) as client, pytest.raises(errors.UnavailableError, match="went away"):
        client.call(CALL, {"do": do})


def test_the_blocking_client_gives_up_at_its_deadline(server: ScriptedServer) -> None:
    server.start()
    with (
        blocking(server, 0.5) as client,
        pytest.raises(errors.UnavailableError, match="does not answer within"),
    ):
        client.call(CALL, {"do": "never"})


async def test_an_answer_said_just_before_death_is_an_answer(server: ScriptedServer) -> None:
    server.start()
    async with connect(server.socket) as client:
        assert (await client.call(CALL, {"do": "answer-and-die"}))["tool"] == CALL


async def test_fifteen_mebibytes_pass_and_seventeen_are_not_sent(server: ScriptedServer) -> None:
    server.start()
    for outcome in await both(server, "huge"):
        assert isinstance(outcome, dict)
    async with connect(server.socket) as client:
        with pytest.raises(errors.ValidationError, match="too large"):
            await client.call(CALL, {"text": "x" * (17 << 20)})
        with pytest.raises(errors.ValidationError, match="too large"):
            await client.call_many(CALL, [{}, {"text": "x" * (17 << 20)}])
        text = "x" * (9 << 20)
        answers = await client.call_many(
            CALL, [{"do": 'raw:{"structuredContent":{}}', "text": text}] * 2
        )
        assert answers == [{}, {}]
    with blocking(server) as blocked, pytest.raises(errors.ValidationError, match="too large"):
        blocked.call(CALL, {"text": "x" * (17 << 20)})


async def test_what_changes_is_told_to_who_subscribed(server: ScriptedServer) -> None:
    server.start()
    changed: list[str] = []
    async with connect(server.socket, on_update=changed.append) as client:
        await client.subscribe("coord://actions")
        await client.call(CALL, {"do": "update:coord://actions"})
    assert changed == ["coord://actions"]
    subscription = server.frames()[2]
    assert subscription["method"] == "resources/subscribe"
    assert subscription["params"] == {"uri": "coord://actions"}


async def test_a_question_of_the_server_is_answered(server: ScriptedServer) -> None:
    server.start()
    async with connect(server.socket) as client:
        await client.call(CALL, {"do": "ask"})
        await client.call(CALL, {})
    assert {"jsonrpc": "2.0", "id": 77, "result": {}} in server.frames()


def test_the_blocking_client_imports_nothing_heavy() -> None:
    code = "import sys, aiagent_coordinator.wire.client; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"anyio", "asyncio", "pydantic", "mcp", "sqlalchemy"} & set(names.stdout.split())
