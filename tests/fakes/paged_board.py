"""The scripted server, but every list has five tasks, given in pages of at most two."""

from __future__ import annotations

from typing import Any

import scripted_server


class PagedConnection(scripted_server.Connection):
    def on_call(self, request_id: Any, params: dict[str, Any]) -> None:
        asked = params["arguments"]
        names = [f"tsk_{number}" for number in range(5)]
        if asked.get("newest"):
            names.reverse()
        begin = names.index(asked["after"]) + 1 if "after" in asked else 0
        end = begin + min(2, asked["limit"])
        page = names[begin:end]
        more = page[-1] if end < len(names) else None
        value = {"tasks": [{"id": name} for name in page], "next": more}
        self.answer(request_id, {"content": [], "structuredContent": value})


if __name__ == "__main__":
    scripted_server.Connection = PagedConnection
    scripted_server.main()
