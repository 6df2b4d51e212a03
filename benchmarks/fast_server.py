"""The fastest server that a cycle can be measured against: fixed answers, no state, no JSON library.

Stand-alone: `fast_server.py SOCKET PROJECTS AGENTS_PER_PROJECT`. Answers `initialize` as a foreign server,
`health_check`, `list_active_projects_with_agents`, and every `get_agent_action` with `hold`, in the words
of AI Agent PM. Both sides of a comparison get the same bytes. Prints "ready" once it listens; every line
on its stdin is answered with the number of connections since the last one.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys

#: The id is last in what one side sends and near the front in what the other sends.
ID = re.compile(rb'"id": ?(\d+)')


def tool_answer(value: object) -> bytes:
    """The part of an answer behind the id."""
    text = json.dumps(value, indent=2, separators=(",", " : "), sort_keys=True)
    result = {"content": [{"text": text, "type": "text"}]}
    return (
        b',"jsonrpc":"2.0","result":' + json.dumps(result, separators=(",", ":")).encode() + b"}\n"
    )


def tails(projects: int, agents: int) -> dict[bytes, bytes]:
    """What is answered behind the id, by what a request contains."""
    listing = [
        {
            "project_id": f"prj_{project}",
            "project_name": f"Project {project}",
            "working_directory": "/tmp",
            "agents": [f"agt_{agent}" for agent in range(agents)],
        }
        for project in range(projects)
    ]
    hold = {
        "success": True,
        "action": "hold",
        "reason": "no_in_progress_task",
        "provider": "claude",
    }
    health = {"success": True, "status": "ok", "agent_count": agents, "project_count": projects}
    server = {"name": "fast", "version": "0"}
    about = {"capabilities": {}, "protocolVersion": "2024-11-05", "serverInfo": server}
    return {
        b"get_agent_action": tool_answer(hold),
        b"health_check": tool_answer(health),
        b"list_active_projects": tool_answer({"success": True, "projects": listing}),
        b'"initialize"': b',"jsonrpc":"2.0","result":' + json.dumps(about).encode() + b"}\n",
    }


class FastServer:
    def __init__(self, path: str, answers: dict[bytes, bytes]) -> None:
        self.answers = answers
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1024)
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.connections = 0

    def accept(self) -> None:
        sock, _ = self.listener.accept()
        self.connections += 1
        rest = b""

        def read() -> None:
            nonlocal rest
            data = sock.recv(1 << 20)
            if not data:
                self.selector.unregister(sock)
                sock.close()
                return
            *lines, rest = (rest + data).split(b"\n")
            sock.sendall(b"".join(map(self.answer, lines)))

        self.selector.register(sock, selectors.EVENT_READ, read)

    def answer(self, line: bytes) -> bytes:
        match = ID.search(line)
        if match is not None:
            for needle, tail in self.answers.items():
                if needle in line:
                    return b'{"id":' + match[1] + tail
        return b""

    def command(self) -> None:
        """Answer a line on stdin; its end is ours."""
        if not sys.stdin.readline():
            sys.exit()
        print(self.connections, flush=True)
        self.connections = 0

    def run(self) -> None:
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.command)
        print("ready", flush=True)
        while True:
            for key, _ in self.selector.select():
                key.data()


if __name__ == "__main__":
    FastServer(sys.argv[1], tails(int(sys.argv[2]), int(sys.argv[3]))).run()
