"""A model without a mind: serves four protocols of vendors on loopback, and plays a fixed plan of tool calls.

    python -m aiagent_coordinator.scripted_model LOG [--plan PLAN.json] [--watch WORD]
              [--fault status|hang|drop] [--after TURNS] [--times COUNT] [--lasts SECONDS]
              [--status 429] [--header 'retry-after: 3600'] [--body '{"error": …}']
              [--said 'name: value'] [--keep REQUESTS]

It prints its port on a line and serves until it is killed. The plan is a list of steps, one a turn:
`{"tool": "authenticate", "arguments": {}}` calls the first tool whose name ends so, `{"write": "a.txt",
"text": "…"}` writes a file by whatever tool the CLI offers for that, `{"read": "SKILL.md"}` reads the
first path that it was told of and that ends so, `{"shell": "sleep 5"}` runs a command, and `{"say": "…",
"until": WORD}` ends the turn with these words unless the conversation holds that one. How many calls the
conversation already holds says which step is next, so nothing is kept between requests. After the plan it
says that it is done. A request that holds a `--watch`ed word is noted with it.

A fault begins `--after` so many calls of the conversation, and strikes `--times` requests (all, without), or
every one for `--lasts` seconds: `status` refuses them so, with these headers and this body in place of its
own, in which `{epoch}`, `{left}` and `{instant}` stand for its end; `hang` never answers;
`drop` ends the connection in the middle of an answer. Each request is a line of JSON in LOG, with the
time it came as `at` (seconds of the epoch).

A step with `"only": WORD` is in the plan of a conversation that holds that word alone. A step with `"used": 150000` says that so many tokens were in its question. `--said` is a header of every
answer that is no refusal. `--keep` writes each request down whole, a line of JSON in REQUESTS with `path`,
`headers` (names in small letters) and `body`.
"""
