"""What runs a command: one protocol, handles that survive the coordinator."""
