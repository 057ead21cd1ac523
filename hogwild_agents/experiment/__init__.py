"""Experiments: a grid of teams over the same problems, and what makes a difference.

``plan`` and ``cells`` say what is compared, ``tasks`` and ``duplicates`` how it is measured;
``jobs`` and ``store`` run it so that it can be broken off; ``statistics``, ``report``, ``table``
and ``plot`` tell what came of it. The command is in ``hogwild_agents.cli.experiment``.
"""
