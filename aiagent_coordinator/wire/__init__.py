"""How processes talk: framing, names on the wire, the blocking client, bounded commands, bridge and shim.

Standard library only. `bridge.py` and `shim.py` import nothing of ours: they are copied into run directories.
"""
