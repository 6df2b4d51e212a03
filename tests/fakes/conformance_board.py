"""What the official conformance suite calls, behind our own HTTP side: `conformance_board.py PORT`.

The suite asks for tools, resources and prompts of fixed names. They are made up here; everything
that carries them (hosts, sessions, eras, streams, long calls) is the product's.
"""
# ruff: noqa: ARG002 - handlers have the SDK's shape, whatever they look at
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportDeprecated=false

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import anyio
from mcp.server.lowlevel import Server as SdkServer
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    CallToolResult,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    Prompt,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SamplingMessage,
    TextContent,
    Tool,
)

from aiagent_coordinator.server.calls import Session
from aiagent_coordinator.server.http.app import make_app
from aiagent_coordinator.server.http.endpoint import Endpoint
from aiagent_coordinator.server.http.listen import bind_http
from aiagent_coordinator.server.http.serve import HttpServer
from aiagent_coordinator.server.http.sessions import Seal
from aiagent_coordinator.server.http.settings import HttpLimits, HttpSettings
from aiagent_coordinator.server.long_calls import LongCall, LongCalls, missing_extension

Json = dict[str, Any]
Context = Any
KEY = b"a key of the fixture"
PROMPT_ARGUMENTS = [{"name": "arg1", "required": True}, {"name": "arg2", "required": True}]


def _png() -> str:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def _wav() -> str:
    """One silent sample."""
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    data = b"WAVE" + fmt + struct.pack("<4sI", b"data", 1) + b"\x80"
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(data)) + data).decode()


def text(value: str) -> Json:
    return {"type": "text", "text": value}


def image() -> Json:
    return {"type": "image", "data": _png(), "mimeType": "image/png"}


def embedded(uri: str, kind: str, value: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": value}}


def told(*content: Json, is_error: bool = False) -> CallToolResult:
    return CallToolResult.model_validate({"content": list(content), "isError": is_error})


def form(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def asked(message: str, **properties: Json) -> Json:
    """A question to the person at the client, in the era that asks within answers."""
    params = {"mode": "form", "message": message, "requestedSchema": form(**properties)}
    return {"method": "elicitation/create", "params": params}


SAMPLING: Json = {
    "method": "sampling/createMessage",
    "params": {
        "messages": [{"role": "user", "content": text("What is the capital of France?")}],
        "maxTokens": 100,
    },
}
ROOTS: Json = {"method": "roots/list", "params": {}}


def wanted(requests: Json, state: str | None = None) -> InputRequiredResult:
    held: Json = {"inputRequests": requests}
    if state is not None:
        held["requestState"] = sealed(state)
    return InputRequiredResult.model_validate({"resultType": "input_required", **held})


def sealed(state: str) -> str:
    return f"{state}.{hmac.new(KEY, state.encode(), hashlib.sha256).hexdigest()}"


def unsealed(value: str | None) -> str | None:
    if value is None:
        return None
    state = value.rpartition(".")[0]
    if not hmac.compare_digest(sealed(state), value):
        raise MCPError(INVALID_PARAMS, "the requestState was changed")
    return state


def content_of(params: Any, key: str) -> Json | None:
    """What the client answered to one question; None when it did not, or not well."""
    answers = cast("Mapping[str, Any]", params.input_responses or {})
    answer = answers.get(key)
    if answer is None:
        return None
    plain: Json = answer if isinstance(answer, dict) else answer.model_dump(by_alias=True)
    return plain


def field_of(params: Any, key: str, name: str) -> str | None:
    answer = content_of(params, key) or {}
    content = answer.get("content")
    value = content.get(name) if isinstance(content, dict) else None
    return str(value) if answer.get("action") == "accept" and value is not None else None


def can(ctx: Context, name: str) -> bool:
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and getattr(capabilities, name) is not None


# --- tools: each takes the context and the whole params ---------------------------------------


async def test_simple_text(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text("This is a simple text response for testing."))


async def test_image_content(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(image())


async def test_audio_content(ctx: Context, params: CallToolRequestParams) -> Any:
    return told({"type": "audio", "data": _wav(), "mimeType": "audio/wav"})


async def test_embedded_resource(ctx: Context, params: CallToolRequestParams) -> Any:
    words = "This is an embedded resource content."
    return told(embedded("test://embedded-resource", "text/plain", words))


async def test_multiple_content_types(ctx: Context, params: CallToolRequestParams) -> Any:
    mixed = json.dumps({"test": "data", "value": 123})
    resource = embedded("test://mixed-content-resource", "application/json", mixed)
    return told(text("Multiple content types test:"), image(), resource)


async def test_tool_with_logging(ctx: Context, params: CallToolRequestParams) -> Any:
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)
        await anyio.sleep(0.05)
    return told(text("Logged."))


async def test_error_handling(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text("This tool intentionally returns an error for testing"), is_error=True)


async def test_tool_with_progress(ctx: Context, params: CallToolRequestParams) -> Any:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await anyio.sleep(0.05)
    return told(text("Progressed."))


async def test_reconnection(ctx: Context, params: CallToolRequestParams) -> Any:
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await anyio.sleep(0.2)
    return told(text("You came back."))


async def test_sampling(ctx: Context, params: CallToolRequestParams) -> Any:
    said = TextContent(type="text", text=str((params.arguments or {}).get("prompt")))
    answer = await ctx.session.create_message(
        messages=[SamplingMessage(role="user", content=said)],
        max_tokens=100,
        related_request_id=ctx.request_id,
    )
    return told(text(f"LLM response: {getattr(answer.content, 'text', answer.content)}"))


async def _elicited(ctx: Context, message: str, schema: Json, begin: str) -> Any:
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    content = json.dumps(answer.content)
    return told(text(f"{begin}: action={answer.action}, content={content}"))


async def test_elicitation(ctx: Context, params: CallToolRequestParams) -> Any:
    schema = form(
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    message = str((params.arguments or {}).get("message"))
    return await _elicited(ctx, message, schema, "User response")


async def test_elicitation_sep1034_defaults(ctx: Context, params: CallToolRequestParams) -> Any:
    states = ["active", "inactive", "pending"]
    schema = form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": states, "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return await _elicited(ctx, "Look at the defaults", schema, "Elicitation completed")


async def test_elicitation_sep1330_enums(ctx: Context, params: CallToolRequestParams) -> Any:
    plain = ["option1", "option2", "option3"]

    def named(word: str) -> list[Json]:
        return [{"const": f"value{number}", "title": f"{word} {number}"} for number in (1, 2, 3)]

    schema = form(
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": named("Option")},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": named("Choice")}},
    )
    return await _elicited(ctx, "Choose", schema, "Elicitation completed")


async def json_schema_2020_12_tool(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text(json.dumps(params.arguments)))


async def test_headers(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text(json.dumps(params.arguments)))


async def test_missing_capability(ctx: Context, params: CallToolRequestParams) -> Any:
    if not can(ctx, "sampling"):
        needs = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling is needed", needs)
    return told(text("It can."))


async def test_streaming_elicitation(ctx: Context, params: CallToolRequestParams) -> Any:
    if not params.input_responses:
        return wanted({"user_name": asked("What is your name?", name={"type": "string"})})
    return told(text("Thank you."))


async def test_logging_tool(ctx: Context, params: CallToolRequestParams) -> Any:
    await ctx.session.send_log_message("info", "Logged", related_request_id=ctx.request_id)
    return told(text("Logged."))


async def test_trigger_tool_change(ctx: Context, params: CallToolRequestParams) -> Any:
    await BUS.publish(ToolsListChanged())
    return told(text("Changed."))


async def test_trigger_prompt_change(ctx: Context, params: CallToolRequestParams) -> Any:
    await BUS.publish(PromptsListChanged())
    return told(text("Changed."))


async def test_input_required_result_elicitation(
    ctx: Context, params: CallToolRequestParams
) -> Any:
    name = field_of(params, "user_name", "name")
    if name is None:
        return wanted({"user_name": asked("What is your name?", name={"type": "string"})})
    return told(text(f"Hello, {name}!"))


async def test_input_required_result_sampling(ctx: Context, params: CallToolRequestParams) -> Any:
    answer = content_of(params, "capital_question")
    if answer is None:
        return wanted({"capital_question": SAMPLING})
    return told(text(json.dumps(answer, default=str)))


async def test_input_required_result_list_roots(ctx: Context, params: CallToolRequestParams) -> Any:
    answer = content_of(params, "client_roots")
    if answer is None:
        return wanted({"client_roots": ROOTS})
    return told(text(json.dumps(answer, default=str)))


async def test_input_required_result_request_state(
    ctx: Context, params: CallToolRequestParams
) -> Any:
    state = unsealed(params.request_state)
    if state is None or content_of(params, "confirm") is None:
        return wanted({"confirm": asked("Please confirm", ok={"type": "boolean"})}, "asked")
    return told(text("state-ok"))


async def test_input_required_result_multiple_inputs(
    ctx: Context, params: CallToolRequestParams
) -> Any:
    state = unsealed(params.request_state)
    keys = ("user_name", "greeting", "client_roots")
    if state is not None and all(content_of(params, key) is not None for key in keys):
        return told(text("All came."))
    ask = asked("What is your name?", name={"type": "string"})
    return wanted({"user_name": ask, "greeting": SAMPLING, "client_roots": ROOTS}, "asked")


async def test_input_required_result_multi_round(
    ctx: Context, params: CallToolRequestParams
) -> Any:
    match unsealed(params.request_state):
        case "one" if field_of(params, "step1", "name"):
            ask = asked("Step 2: What is your favorite color?", color={"type": "string"})
            return wanted({"step2": ask}, "two")
        case "two" if field_of(params, "step2", "color"):
            return told(text("Both came."))
        case _:
            ask = asked("Step 1: What is your name?", name={"type": "string"})
            return wanted({"step1": ask}, "one")


async def test_input_required_result_tampered_state(
    ctx: Context, params: CallToolRequestParams
) -> Any:
    return await test_input_required_result_request_state(ctx, params)


async def test_input_required_result_capabilities(
    ctx: Context, params: CallToolRequestParams
) -> Any:
    if params.input_responses:
        return told(text("Thank you."))
    requests: Json = {}
    if can(ctx, "elicitation"):
        requests["user_name"] = asked("What is your name?", name={"type": "string"})
    if can(ctx, "sampling"):
        requests["capital_question"] = SAMPLING
    return wanted(requests) if requests else told(text("There is nobody to ask."))


async def greet(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text(f"Hello, {(params.arguments or {}).get('name', 'you')}!"))


async def slow_compute(ctx: Context, params: CallToolRequestParams) -> Any:
    await anyio.sleep(float((params.arguments or {}).get("seconds", 0)))
    return told(text("Computed."))


async def failing_job(ctx: Context, params: CallToolRequestParams) -> Any:
    await anyio.sleep(1)
    return told(text("It did not work."), is_error=True)


async def protocol_error_job(ctx: Context, params: CallToolRequestParams) -> Any:
    raise MCPError(-32603, "it broke")


async def confirm_delete(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text("Deleted."))


async def multi_input(ctx: Context, params: CallToolRequestParams) -> Any:
    return told(text("Both came."))


async def test_tool_with_task(ctx: Context, params: CallToolRequestParams) -> Any:
    name = field_of(params, "user_name", "name") or field_of(params, "user_name", "user_name")
    return told(text(f"Hello, {name}!"))


TOOLS: dict[str, Callable[[Context, CallToolRequestParams], Awaitable[Any]]] = {
    each.__name__: each
    for each in (
        test_simple_text, test_image_content, test_audio_content, test_embedded_resource,
        test_multiple_content_types, test_tool_with_logging, test_error_handling,
        test_tool_with_progress, test_reconnection, test_sampling, test_elicitation,
        test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums,
        json_schema_2020_12_tool, test_headers, test_missing_capability,
        test_streaming_elicitation, test_logging_tool, test_trigger_tool_change,
        test_trigger_prompt_change, test_input_required_result_elicitation,
        test_input_required_result_sampling, test_input_required_result_list_roots,
        test_input_required_result_request_state, test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round, test_input_required_result_tampered_state,
        test_input_required_result_capabilities, greet, slow_compute, failing_job,
        protocol_error_job, confirm_delete, multi_input, test_tool_with_task,
    )
}  # fmt: skip
ONLY_LONG = {"failing_job", "test_tool_with_task"}
LONG = {"slow_compute", "protocol_error_job", "confirm_delete", "multi_input", *ONLY_LONG}
QUESTIONS: dict[str, Json] = {
    "confirm_delete": {"q1": asked("Really?", confirm={"type": "boolean"})},
    "multi_input": {
        "q1": asked("First?", answer={"type": "string"}),
        "q2": asked("Second?", answer={"type": "string"}),
    },
}
ADDRESS: Json = {
    "$anchor": "addressDef",
    "type": "object",
    "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
}
SCHEMAS: dict[str, Json] = {
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": ADDRESS},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
    "test_headers": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    },
    "test_sampling": form(prompt={"type": "string"}),
    "test_elicitation": form(message={"type": "string"}),
    "greet": form(name={"type": "string"}),
    "slow_compute": form(seconds={"type": "number"}),
}


class Kept:
    """Long calls of the fixture: in memory, each with its task."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._calls: dict[str, LongCall] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._answered: dict[str, anyio.Event] = {}

    async def begin(self, ctx: Context, params: CallToolRequestParams) -> LongCall | None:
        if params.name not in LONG:
            return None
        if params.name == "test_tool_with_task" and not params.input_responses:
            return None
        now, number = stamp(), f"call-{len(self._calls)}-{time.time_ns()}"
        call = LongCall(number, "working", now, now, ttl_ms=300_000, poll_ms=200)
        questions = QUESTIONS.get(params.name)
        if questions is not None:
            call = replace(call, status="input_required", input_requests=questions)
        self._calls[number] = call
        self._answered[number] = anyio.Event()
        scope = self._scopes[number] = anyio.CancelScope()
        self._tasks.start_soon(self._run, scope, number, ctx, params)
        return call

    async def find(self, ctx: Context, call_id: str) -> LongCall | None:
        return self._calls.get(call_id)

    async def answer(self, ctx: Context, call_id: str, responses: Mapping[str, Any]) -> None:
        call = self._calls[call_id]
        left = {
            key: ask for key, ask in (call.input_requests or {}).items() if key not in responses
        }
        if call.status != "input_required":
            return
        if left:
            self._change(call_id, input_requests=left)
        else:
            self._change(call_id, status="working", input_requests=None)
            self._answered[call_id].set()

    async def cancel(self, ctx: Context, call_id: str) -> None:
        if self._calls[call_id].status in {"working", "input_required"}:
            self._change(call_id, status="cancelled", input_requests=None)
            self._scopes[call_id].cancel()

    def _change(self, call_id: str, **more: Any) -> None:
        self._calls[call_id] = replace(self._calls[call_id], updated_at=stamp(), **more)

    async def _run(
        self, scope: anyio.CancelScope, call_id: str, ctx: Context, params: CallToolRequestParams
    ) -> None:
        with scope:
            if params.name in QUESTIONS:
                await self._answered[call_id].wait()
            try:
                result = await TOOLS[params.name](ctx, params)
            except MCPError as error:
                failure = {"code": error.code, "message": error.message}
                self._change(call_id, status="failed", error=failure)
                return
            plain = result.model_dump(by_alias=True, mode="json", exclude_none=True)
            self._change(call_id, status="completed", result=plain)


def stamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


BUS = InMemorySubscriptionBus()


class Handlers:
    """The fixture's SDK server, as the product's HTTP side wants it."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.sdk: SdkServer[Any] = SdkServer(
            "conformance",
            version="1",
            on_list_tools=self._tools,
            on_call_tool=self._call,
            on_list_resources=self._resources,
            on_list_resource_templates=self._templates,
            on_read_resource=self._read,
            on_subscribe_resource=self._nothing,
            on_unsubscribe_resource=self._nothing,
            on_subscriptions_listen=ListenHandler(BUS),
            on_list_prompts=self._prompts,
            on_get_prompt=self._prompt,
            on_completion=self._complete,
            on_set_logging_level=self._nothing,
        )
        self._long = LongCalls(self.sdk, Kept(tasks))
        self.options = self.sdk.create_initialization_options()

    def enter(self, session: Session) -> None:
        """Everybody is the same here."""

    async def _tools(self, ctx: Context, params: Any) -> ListToolsResult:
        empty: Json = {"type": "object", "properties": {}}
        tools = [
            Tool(name=name, description=f"Fixture {name}.", input_schema=SCHEMAS.get(name, empty))
            for name in TOOLS
        ]
        return ListToolsResult(tools=tools, ttl_ms=1000, cache_scope="private")

    async def _call(self, ctx: Context, params: CallToolRequestParams) -> Any:
        found = TOOLS.get(params.name)
        if found is None:
            raise MCPError(INVALID_PARAMS, f"unknown tool {params.name}")
        began = await self._long.begin(ctx, params)
        if began is not None:
            return began
        if params.name == "test_tool_with_task":
            return wanted({"user_name": asked("Who?", name={"type": "string"})}, "asked")
        if params.name in ONLY_LONG:
            raise missing_extension()
        return await found(ctx, params)

    async def _resources(self, ctx: Context, params: Any) -> ListResourcesResult:
        names = {"static-text": "text/plain", "static-binary": "image/png"}
        names["watched-resource"] = "text/plain"
        return ListResourcesResult(
            resources=[
                Resource(uri=f"test://{name}", name=name, description=name, mime_type=kind)
                for name, kind in names.items()
            ],
            ttl_ms=1000,
        )

    async def _templates(self, ctx: Context, params: Any) -> ListResourceTemplatesResult:
        template = "test://template/{id}/data"
        one = ResourceTemplate(uri_template=template, name="template", description="By id.")
        return ListResourceTemplatesResult(resource_templates=[one], ttl_ms=1000)

    async def _read(self, ctx: Context, params: Any) -> ReadResourceResult:
        uri = str(params.uri)
        found: Json = {"uri": uri, "mimeType": "text/plain"}
        if uri == "test://static-text":
            found["text"] = "This is the content of the static text resource."
        elif uri == "test://static-binary":
            found |= {"mimeType": "image/png", "blob": _png()}
        elif uri == "test://watched-resource":
            found["text"] = "Watched."
        elif uri.startswith("test://template/") and uri.endswith("/data"):
            number = uri.split("/")[3]
            data = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
            found |= {"mimeType": "application/json", "text": json.dumps(data)}
        else:
            raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})
        return ReadResourceResult.model_validate({"contents": [found], "ttlMs": 1000})

    async def _nothing(self, ctx: Context, params: Any) -> EmptyResult:
        return EmptyResult()

    async def _prompts(self, ctx: Context, params: Any) -> ListPromptsResult:
        resource = [{"name": "resourceUri", "required": True}]
        known: dict[str, list[Json]] = {
            "test_simple_prompt": [],
            "test_prompt_with_arguments": PROMPT_ARGUMENTS,
            "test_prompt_with_embedded_resource": resource,
            "test_prompt_with_image": [],
            "test_input_required_result_prompt": [],
        }
        prompts = [
            Prompt.model_validate({"name": name, "description": name, "arguments": arguments})
            for name, arguments in known.items()
        ]
        return ListPromptsResult(prompts=prompts, ttl_ms=1000)

    async def _prompt(self, ctx: Context, params: Any) -> Any:
        given = params.arguments or {}
        match params.name:
            case "test_simple_prompt":
                said = [text("This is a simple prompt for testing.")]
            case "test_prompt_with_arguments":
                one, two = given.get("arg1"), given.get("arg2")
                said = [text(f"Prompt with arguments: arg1='{one}', arg2='{two}'")]
            case "test_prompt_with_embedded_resource":
                uri, words = given.get("resourceUri"), "Embedded resource content for testing."
                after = text("Please process the embedded resource above.")
                said = [embedded(str(uri), "text/plain", words), after]
            case "test_prompt_with_image":
                said = [image(), text("Please analyze the image above.")]
            case "test_input_required_result_prompt":
                context = field_of(params, "user_context", "context")
                if context is None:
                    ask = asked("What context should the prompt use?", context={"type": "string"})
                    return wanted({"user_context": ask})
                said = [text(f"In the context of {context}.")]
            case _:
                raise MCPError(INVALID_PARAMS, f"unknown prompt {params.name}")
        messages = [{"role": "user", "content": one} for one in said]
        return GetPromptResult.model_validate({"messages": messages})

    async def _complete(self, ctx: Context, params: Any) -> CompleteResult:
        return CompleteResult(completion=Completion(values=["paris", "park", "party"], total=3))


async def main(port: int) -> None:
    limits = HttpLimits(requests_per_second=1e6, burst=10**6)
    settings = HttpSettings("127.0.0.1", port, limits=limits)
    sock = bind_http(settings)
    async with anyio.create_task_group() as tasks:
        endpoint = Endpoint(Handlers(tasks), None, settings, Seal(KEY), lambda _: None)
        real_port = sock.getsockname()[1]
        app = make_app(endpoint, settings, real_port, time.monotonic)
        print(real_port, flush=True)
        await HttpServer(app, endpoint, settings).run(sock)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
