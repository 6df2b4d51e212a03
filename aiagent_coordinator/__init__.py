"""Supervises AI coding CLIs as subprocesses and coordinates them over MCP.

Importing this package loads nothing heavy; submodules are imported by what needs them.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
