"""What our own clients say first and how they read answers; shared by the blocking and the pipelined one.

Standard library only. Four shapes of failure are understood: a JSON-RPC error, `isError` with an
`Authorization Error: …` text, `isError` with an `Error: …` text (all that AI Agent PM has), ours with
`{"error": {"code", "message", "hint"}}`, and a success that says `{"success": false, "error": …}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from aiagent_coordinator import __version__, errors
from aiagent_coordinator.wire.framing import Json, encode
from aiagent_coordinator.wire.protocol import CAPABILITY, MCP_REVISION, PROTOCOL_VERSION

#: Said whenever nobody answers on the socket.
START_HINT = "start it with: aiagent-coordinator"

_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602
_ROWS = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)
_CODE_AND_MESSAGE = re.compile(r"([A-Z][A-Z_]+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class ServerInfo:
    """Who answered `initialize`. `ours` means that it echoed our capability."""

    ours: bool
    name: str
    version: str
    features: frozenset[str] = frozenset()


def initialize(request_id: int) -> Json:
    """The request that opens a connection and says that the caller is one of our programs."""
    features: list[str] = []
    capability = {CAPABILITY: {"protocol": PROTOCOL_VERSION, "features": features}}
    params = {
        "protocolVersion": MCP_REVISION,
        "capabilities": {"experimental": capability},
        "clientInfo": {"name": "aiagent-coordinator", "version": __version__},
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": "initialize", "params": params}


#: Ends the handshake.
INITIALIZED: Json = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def tool_call(request_id: int, tool: str, arguments: Mapping[str, object]) -> Json:
    """The request that calls a tool."""
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def tool_calls(first_id: int, tool: str, calls: Sequence[Mapping[str, object]]) -> bytes:
    """The requests that call one tool many times, under successive ids: the hot path of polling.

    All arguments are written by one run of the C encoder and cut at the seams between them. What looks
    like a seam but is none (in a text, in a list of objects) makes their number wrong: such calls are
    written one by one.
    """
    try:
        bodies = _ROWS.encode(calls)[2:-2].split("},{")
        if len(bodies) == len(calls):
            start = '{"jsonrpc":"2.0","id":'
            middle = f',"method":"tools/call","params":{{"name":{json.dumps(tool)},"arguments":{{'
            rows = [
                f"{start}{row_id}{middle}{body}}}}}}}\n"
                for row_id, body in enumerate(bodies, first_id)
            ]
            return "".join(rows).encode()
    except UnicodeEncodeError:
        pass  # a lone surrogate; the slower way escapes it
    return b"".join(encode(tool_call(row, tool, call)) for row, call in enumerate(calls, first_id))


def read_server_info(message: Mapping[str, object]) -> ServerInfo:
    """Read the answer to `initialize`.

    A server that does not know the method is a foreign one that needs no handshake.

    Raises:
        errors.ProtocolError: it refuses, or it is ours and speaks a newer protocol.
    """
    error = message.get("error")
    if error is not None and _mapping(error).get("code") == _METHOD_NOT_FOUND:
        return ServerInfo(ours=False, name="", version="")
    result = _mapping(read_result(message))
    about = _mapping(result.get("serverInfo"))
    experimental = _mapping(_mapping(result.get("capabilities")).get("experimental"))
    name, version = str(about.get("name", "")), str(about.get("version", ""))
    if CAPABILITY not in experimental:
        return ServerInfo(ours=False, name=name, version=version)
    ours = _mapping(experimental[CAPABILITY])
    version = str(ours.get("version", version))
    protocol = ours.get("protocol")
    if not isinstance(protocol, int) or protocol > PROTOCOL_VERSION:
        raise errors.ProtocolError(
            f"the server (version {version}) speaks protocol {protocol}, "
            f"this program (version {__version__}) protocol {PROTOCOL_VERSION}",
            hint="install the same version on both sides",
        )
    features = ours.get("features")
    names = cast("list[object]", features) if isinstance(features, list) else []
    return ServerInfo(ours=True, name=name, version=version, features=frozenset(map(str, names)))


def read_result(message: Mapping[str, object]) -> Json:
    """Give what a request was answered with.

    Raises:
        errors.CoordinatorError: the answer is a JSON-RPC error.
        errors.ProtocolError: it is no answer at all.
    """
    result = message.get("result")
    if isinstance(result, dict):
        return cast("Json", result)
    if "error" not in message:
        raise errors.ProtocolError("the server answered with neither a result nor an error")
    error = _mapping(message["error"])
    text, code = str(error.get("message", "unknown error")), error.get("code")
    data = _mapping(error.get("data"))
    if isinstance(data.get("code"), str):
        raise errors.from_code(str(data["code"]), text, str(data.get("hint", "")))
    if code == _INVALID_PARAMS:
        raise errors.ValidationError(text)
    raise errors.ProtocolError(f"{text} ({code})")


def read_tool_answer(message: Mapping[str, object]) -> Json:
    """Give the object that a tool answered with.

    Structured content counts before its copy in the text. A list becomes `{"items": […]}`, a text
    that is no JSON `{"text": …}`.

    Raises:
        errors.CoordinatorError: the tool, or the server, says that it failed.
        errors.ProtocolError: it is no answer at all.
    """
    result = read_result(message)
    answer = result.get("structuredContent")
    if result.get("isError"):
        raise _tool_error(answer, _text_of(result))
    if not isinstance(answer, dict):
        answer = _parsed(_text_of(result))
    answer = cast("Json", answer)
    if answer.get("success") is False:
        raise _unsuccessful(answer)
    return answer


def _parsed(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return {"text": text}
    if isinstance(value, dict):
        return cast("Json", value)
    return {"items": cast("list[object]", value)} if isinstance(value, list) else {"text": text}


def _text_of(result: Mapping[str, object]) -> str:
    content = result.get("content")
    first = cast("list[object]", content)[0] if isinstance(content, list) and content else None
    return str(_mapping(first).get("text", ""))


def _tool_error(answer: object, text: str) -> errors.CoordinatorError:
    error = _mapping(_mapping(answer).get("error"))
    if isinstance(error.get("code"), str):
        message, hint = str(error.get("message", text)), str(error.get("hint", ""))
        return errors.from_code(str(error["code"]), message, hint)
    match = _CODE_AND_MESSAGE.fullmatch(text)
    if match:
        return errors.from_code(match[1], match[2])
    return _foreign_error(text)


def _unsuccessful(answer: Mapping[str, object]) -> errors.CoordinatorError:
    error = answer.get("error")
    if isinstance(error, dict):
        facts = cast("Json", error)
        text, hint = str(facts.get("message", facts)), str(facts.get("hint", ""))
        if isinstance(facts.get("code"), str):
            return errors.from_code(str(facts["code"]), text, hint)
        return errors.ServerError(text, hint=hint)
    text = str(error or answer.get("message") or "the server says that it did not succeed")
    return _foreign_error(text)


def _foreign_error(text: str) -> errors.CoordinatorError:
    """Name what AI Agent PM's texts mean. Source: its ToolAuthorization and MCPServer."""
    refused = text.startswith("Authorization Error:")
    text = text.removeprefix("Authorization Error:").removeprefix("Error:").strip()
    if "is not registered in authorization system" in text:
        return errors.ProtocolError(text, hint="the server does not have this tool")
    if refused:
        return errors.ForbiddenError(text)
    lowered = text.lower()
    if "invalid coordinator token" in lowered or "invalid session" in lowered:
        return errors.UnauthorizedError(text)
    if "not found" in lowered or "not_found" in lowered:
        return errors.NotFoundError(text)
    return errors.ServerError(text or "the server reports an error without a text")


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}
