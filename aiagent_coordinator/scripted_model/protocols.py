"""The protocols of vendors that CLIs speak: how a request offers tools, and how a turn is answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import cast
from uuid import uuid4

from aiagent_coordinator.scripted_model.turns import Json, Tool, Turn


def _list(value: object) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


def _sse(event: Json, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event)}\n\n".encode()


class Anthropic:
    """Messages: claude."""

    def serves(self, path: str) -> bool:
        """Whether requests to this path speak it."""
        return path.endswith("/v1/messages")

    def is_streamed(self, path: str, body: Json) -> bool:
        """Whether the answer is wanted as a stream of events."""
        del path
        return bool(body.get("stream"))

    def tools(self, body: Json) -> list[Tool]:
        """The tools that the CLI offers."""
        return [Tool(str(tool.get("name"))) for tool in _list(body.get("tools"))]

    def made(self, body: Json) -> int:
        """How many calls the conversation holds."""
        messages = _list(body.get("messages"))
        parts = (part for message in messages for part in _list(message.get("content")))
        return sum(part.get("type") == "tool_use" for part in parts)

    def refusal(self, status: int) -> Json:
        """What stands in the body of a refused request."""
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": f"scripted {status}"}}

    def whole(self, turn: Turn, body: Json) -> Json:
        """The answer in one piece."""
        block: Json = {"type": "text", "text": turn.text}
        if turn.tool:
            # an id that comes twice is one call to a conversation that was shortened
            block = {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": turn.tool.name}
            block["input"] = json.loads(turn.arguments)
        return {
            "id": f"msg_{uuid4().hex}",  # what its CLI counts tokens by
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [block],
            "stop_reason": "tool_use" if turn.tool else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": turn.used, "output_tokens": 5},
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        """The answer as events, each as bytes."""
        whole = self.whole(turn, body)
        (block,) = whole["content"]
        begun: Json = {**block, "input": {}} if turn.tool else {**block, "text": ""}
        delta = {"type": "text_delta", "text": turn.text}
        if turn.tool:
            delta = {"type": "input_json_delta", "partial_json": turn.arguments}
        events: Iterable[Json] = (
            {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": begun},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
                "usage": whole["usage"],
            },
            {"type": "message_stop"},
        )
        for event in events:
            yield _sse(event, event["type"])


class Responses:
    """OpenAI's Responses: codex."""

    def serves(self, path: str) -> bool:
        """Whether requests to this path speak it."""
        return path.endswith("/responses")

    def is_streamed(self, path: str, body: Json) -> bool:
        """Whether the answer is wanted as a stream of events."""
        del path
        return bool(body.get("stream"))

    def tools(self, body: Json) -> list[Tool]:
        """The tools that the CLI offers."""
        found: list[Tool] = []
        for tool in _list(body.get("tools")):
            name = str(tool.get("name", ""))
            if tool.get("type") == "namespace":
                found += [Tool(str(each["name"]), name) for each in _list(tool.get("tools"))]
            elif name:
                found.append(Tool(name, is_free_text=tool.get("type") == "custom"))
        return found

    def made(self, body: Json) -> int:
        """How many calls the conversation holds."""
        kinds = {"function_call", "custom_tool_call"}
        return sum(item.get("type") in kinds for item in _list(body.get("input")))

    def refusal(self, status: int) -> Json:
        """What stands in the body of a refused request."""
        return {"error": {"message": f"scripted {status}", "type": "scripted", "code": None}}

    def whole(self, turn: Turn, body: Json) -> Json:
        """The answer in one piece."""
        used = {"input_tokens": turn.used, "output_tokens": 5, "total_tokens": turn.used + 5}
        return {
            "id": "resp_1",
            "object": "response",
            "output": [self._item(turn, body)],
            "usage": used,
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        """The answer as events, each as bytes."""
        whole = self.whole(turn, body)
        yield _sse({"type": "response.created", "response": {"id": whole["id"]}})
        yield _sse({"type": "response.output_item.done", "item": whole["output"][0]})
        yield _sse({"type": "response.completed", "response": whole})

    def _item(self, turn: Turn, body: Json) -> Json:
        if turn.tool is None:
            content = [{"type": "output_text", "text": turn.text}]
            return {"type": "message", "id": "m_1", "role": "assistant", "content": content}
        called: Json = {"name": turn.tool.name, "call_id": f"call_{self.made(body)}"}
        if turn.tool.namespace:
            called["namespace"] = turn.tool.namespace
        if turn.tool.is_free_text:
            return {**called, "type": "custom_tool_call", "input": turn.arguments}
        return {**called, "type": "function_call", "arguments": turn.arguments}


class Completions:
    """OpenAI's Chat Completions: opencode, qwen."""

    def serves(self, path: str) -> bool:
        """Whether requests to this path speak it."""
        return path.endswith("/chat/completions")

    def is_streamed(self, path: str, body: Json) -> bool:
        """Whether the answer is wanted as a stream of events."""
        del path
        return bool(body.get("stream"))

    def tools(self, body: Json) -> list[Tool]:
        """The tools that the CLI offers."""
        functions: list[Json] = [tool.get("function") or {} for tool in _list(body.get("tools"))]
        return [Tool(str(one["name"])) for one in functions if "name" in one]

    def made(self, body: Json) -> int:
        """How many calls the conversation holds."""
        return sum(len(_list(one.get("tool_calls"))) for one in _list(body.get("messages")))

    def refusal(self, status: int) -> Json:
        """What stands in the body of a refused request."""
        return {"error": {"message": f"scripted {status}", "type": "scripted", "code": None}}

    def whole(self, turn: Turn, body: Json) -> Json:
        """The answer in one piece."""
        message: Json = {"role": "assistant", "content": turn.text or None}
        if turn.tool:
            call = {"name": turn.tool.name, "arguments": turn.arguments}
            called = {"index": 0, "id": f"call_{self.made(body)}", "type": "function"}
            message["tool_calls"] = [{**called, "function": call}]
        end = "tool_calls" if turn.tool else "stop"
        return {
            "id": "chatcmpl_1",
            "object": "chat.completion",
            "created": 1,
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": end}],
            "usage": {
                "prompt_tokens": turn.used,
                "completion_tokens": 5,
                "total_tokens": turn.used + 5,
            },
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        """The answer as events, each as bytes."""
        whole = self.whole(turn, body)
        (choice,) = whole["choices"]
        chunk: Json = {**whole, "object": "chat.completion.chunk", "usage": None}
        begun = {"index": 0, "delta": choice["message"], "finish_reason": None}
        ended: Json = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        yield _sse({**chunk, "choices": [begun]})
        yield _sse({**chunk, "choices": [ended]})
        yield _sse({**chunk, "choices": [], "usage": whole["usage"]})
        yield b"data: [DONE]\n\n"


class Gemini:
    """generateContent: gemini."""

    def serves(self, path: str) -> bool:
        """Whether requests to this path speak it."""
        return path.endswith((":generateContent", ":streamGenerateContent"))

    def is_streamed(self, path: str, body: Json) -> bool:
        """Whether the answer is wanted as a stream of events."""
        del body
        return path.endswith(":streamGenerateContent")

    def tools(self, body: Json) -> list[Tool]:
        """The tools that the CLI offers."""
        declared = (_list(tool.get("functionDeclarations")) for tool in _list(body.get("tools")))
        return [Tool(str(each["name"])) for some in declared for each in some]

    def made(self, body: Json) -> int:
        """How many calls the conversation holds."""
        contents = _list(body.get("contents"))
        return sum("functionCall" in part for each in contents for part in _list(each.get("parts")))

    def refusal(self, status: int) -> Json:
        """What stands in the body of a refused request."""
        return {"error": {"code": status, "message": f"scripted {status}", "status": "SCRIPTED"}}

    def whole(self, turn: Turn, body: Json) -> Json:
        """The answer in one piece."""
        config: Json = body.get("generationConfig") or {}
        part: Json = {"text": turn.text}
        if turn.tool:
            part = {"functionCall": {"name": turn.tool.name, "args": json.loads(turn.arguments)}}
        elif config.get("responseMimeType") == "application/json":
            # what it asks a small model on the side: which model is to answer, and who speaks next
            asides = {"model_choice": "flash", "complexity_score": 1, "complexity_reasoning": "-"}
            part = {"text": json.dumps({**asides, "reasoning": "-", "next_speaker": "user"})}
        return {
            "candidates": [
                {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {
                "promptTokenCount": turn.used,
                "candidatesTokenCount": 5,
                "totalTokenCount": turn.used + 5,
            },
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        """The answer as events, each as bytes."""
        yield _sse(self.whole(turn, body))


Protocol = Anthropic | Responses | Completions | Gemini
PROTOCOLS: tuple[Protocol, ...] = (Anthropic(), Responses(), Completions(), Gemini())
