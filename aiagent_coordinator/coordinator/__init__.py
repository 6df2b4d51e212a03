"""The loop: what should run, what runs, and what became of it. Talks MCP to a server."""
