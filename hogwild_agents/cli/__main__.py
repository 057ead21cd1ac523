"""``python -m hogwild_agents.cli`` is the command ``hogwild``."""

from hogwild_agents.cli.app import main

main()
