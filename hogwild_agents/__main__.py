"""``python -m hogwild_agents`` is the command ``hogwild``, as ``torchrun`` starts it."""

from hogwild_agents.cli.app import main

main()
