"""Programs that speak as claude does, and say what a test wants said: of limits, and of what they used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: Speaks as claude does; what it is to say stands in a file beside it, newest word first.
TALKER = """\
#!{python} -S
import json, os, sys, time
told = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "say.json")))
with open(told["log"], "a") as log:
    log.write(json.dumps({{name: os.environ.get(name) for name in told["look"]}} | {{"argv": sys.argv[1:]}}) + "\\n")
said = told["say"]
if said is None:
    sys.exit(0)
said = said.replace("{{at}}", str(int(time.time()) + 1 + told["seconds"]))
print(json.dumps({{"type": "system", "subtype": "init", "session_id": "s-1", "model": "m"}}))
print(json.dumps({{"type": "result", "is_error": True, "subtype": "success", "result": said,
                   "usage": {{"input_tokens": 10, "output_tokens": 5}}}}))
sys.exit(1)
"""


class Talker:
    """A program that says what it is told to say, and remembers each start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "starts.log"
        self.path = folder / "talker"
        self.path.write_text(TALKER.format(python=sys.executable), encoding="utf-8")
        self.path.chmod(0o755)
        self.look: list[str] = []
        self.say(None)

    def say(self, text: str | None, seconds: int = 0) -> None:
        """Say this from now on; `{at}` is so long after it is said, in seconds of the epoch."""
        told = {"say": text, "seconds": seconds, "log": str(self.log), "look": self.look}
        draft = self.folder / "say.tmp"
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.rename(self.folder / "say.json")

    def starts(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        # it is also asked for its version, and whether it is logged in
        return [line for line in lines if "-p" in line["argv"]]


#: As claude says it.
AT = "Claude AI usage limit reached|{at}"


#: Speaks as claude does, tells what it used, and fails; what is in `use.json` beside it.
SPENDER = """\
#!{python} -S
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
told = json.load(open(os.path.join(here, "use.json")))
if "-p" not in sys.argv:
    sys.exit(0)  # it is asked for its version
def say(**event):
    print(json.dumps(event), flush=True)
say(type="system", subtype="init", session_id="s-1", model="m")
for number, tokens in enumerate(told["steps"]):
    say(type="assistant", message={{"id": "m%d" % number, "role": "assistant", "content": [],
        "usage": {{"input_tokens": tokens, "output_tokens": 0}}}})
if told["stays"]:
    while not os.path.exists(os.path.join(here, "leave")):
        time.sleep(0.05)
say(type="result", is_error=True, subtype="success", result="gave up",
    total_cost_usd=told["cost"], usage={{"input_tokens": sum(told["steps"]), "output_tokens": 0}})
sys.exit(1)
"""


class Spender:
    """A program that uses what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "spender"
        self.path.write_text(SPENDER.format(python=sys.executable), encoding="utf-8")
        self.path.chmod(0o755)
        self.uses([10])

    def uses(self, steps: list[int], *, cost: float = 0.0, stays: bool = False) -> None:
        told = {"steps": steps, "cost": cost, "stays": stays}
        draft = self.folder / "use.tmp"
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.rename(self.folder / "use.json")
