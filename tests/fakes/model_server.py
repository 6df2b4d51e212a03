"""The scripted model that ships with the product, as a file that tests start; see `scripted_model`."""

from __future__ import annotations

from aiagent_coordinator.scripted_model.__main__ import main

if __name__ == "__main__":
    main()
