"""A Google of its own on loopback, as Gemini CLI speaks with it after a login: a proxy that ends every connection itself.

    python google.py LOG CERTIFICATE KEY

It prints its port. Whatever host is asked for, it answers with this certificate: it renews tokens (`renewed-1`
and so on), says that they are good, and plays the plan of the scripted model under Code Assist's names. Each
request is a line of JSON in LOG with its path, its host and the token that came with it.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from aiagent_coordinator.scripted_model.protocols import Gemini
from aiagent_coordinator.scripted_model.server import Fault, Handler, ModelServer
from aiagent_coordinator.scripted_model.turns import PLAN, Json, choose

PROTOCOL = Gemini()
ANSWERS: dict[str, Json] = {
    "/tokeninfo": {"aud": "nobody", "expires_in": 3600, "scope": "all"},
    "/oauth2/v2/userinfo": {"email": "nobody@users.example"},
    "/v1internal:loadCodeAssist": {
        "currentTier": {"id": "standard-tier", "name": "Standard"},
        "cloudaicompanionProject": "a-project",
    },
}


class Google(Handler):
    """One connection, which may turn into another by CONNECT."""

    server: GoogleServer  # pyright: ignore[reportIncompatibleVariableOverride] - typeshed names the base
    asked: str = ""

    def do_CONNECT(self) -> None:  # noqa: N802 - the base's own name
        """Be whoever was asked for."""
        self.asked = self.path
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")  # pyright: ignore[reportAttributeAccessIssue]

    def do_GET(self) -> None:  # noqa: N802 - the base's own name
        """Say who the user is."""
        self._answer({})

    def do_POST(self) -> None:  # noqa: N802 - the base's own name
        """Renew a token, look at one, or take a turn of the model."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_json = "json" in self.headers.get("Content-Type", "")
        self._answer(json.loads(content or b"{}") if is_json else {"form": content.decode()})

    def _answer(self, body: Json) -> None:
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.note({"path": path, "host": self.asked, "token": token, **_form(body)})
        if path.endswith(("/token", ":token")):
            self.server.renewed += 1
            answer = {"access_token": f"renewed-{self.server.renewed}", "expires_in": 3600}
            self._json(200, {**answer, "token_type": "Bearer"})
        elif PROTOCOL.serves(path):
            self._turn(path, body.get("request") or {})
        else:
            self._json(200, ANSWERS.get(path, {}))
        self.wfile.flush()

    def _turn(self, path: str, request: Json) -> None:
        tools = PROTOCOL.tools(request)
        turn = choose(self.server.plan, PROTOCOL.made(request), tools, request)
        answer = {"response": PROTOCOL.whole(turn, request)}
        if PROTOCOL.is_streamed(path, request):
            event = f"data: {json.dumps(answer)}\n\n".encode()
            self._send(200, "text/event-stream", event)
        else:
            self._json(200, answer)


def _form(body: Json) -> Json:
    return {"form": body["form"]} if "form" in body else {}


class GoogleServer(ModelServer):
    """The server, its certificate, and how often it renewed a token."""

    renewed = 0

    def __init__(self, log: Path, certificate: str, key: str) -> None:
        super().__init__(log, PLAN, Fault())
        self.RequestHandlerClass = Google
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)


def main() -> None:
    """Serve until killed."""
    server = GoogleServer(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
