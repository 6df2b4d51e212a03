"""What agents, people and coordinators call. Only this package imports mcp."""
