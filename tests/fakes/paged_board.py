"""The scripted server, but every list has five tasks, given in pages of two whatever is asked for."""

from __future__ import annotations

from typing import Any

import scripted_server


class PagedConnection(scripted_server.Connection):
    def on_call(self, request_id: Any, params: dict[str, Any]) -> None:
        names = [f"tsk_{number}" for number in range(5)]
        after = params["arguments"].get("after")
        begin = names.index(after) + 1 if after else 0
        page = names[begin : begin + 2]
        more = page[-1] if begin + 2 < len(names) else None
        value = {"tasks": [{"id": name} for name in page], "next": more}
        self.answer(request_id, {"content": [], "structuredContent": value})


if __name__ == "__main__":
    scripted_server.Connection = PagedConnection
    scripted_server.main()
