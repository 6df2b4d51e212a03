"""What is tested is what is installed."""

from __future__ import annotations

from importlib.metadata import files, version

import aiagent_coordinator


def test_the_package_under_test_is_the_installed_one():
    """A test run that imports the source tree by accident proves nothing about the wheel."""
    assert version("aiagent-coordinator") == aiagent_coordinator.__version__
    listed = files("aiagent-coordinator")
    assert listed is not None
    located = {str(file.locate()) for file in listed}
    # an editable install lists its path file instead of the modules
    editable = any(name.endswith(".pth") for name in located)
    assert editable or aiagent_coordinator.__file__ in located
