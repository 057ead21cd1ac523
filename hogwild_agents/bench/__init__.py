"""Bench: how fast ticks are here, against other ways to do the same and against the hardware.

``hogwild bench``, or ``python -m hogwild_agents.bench`` where only torch and transformers are
installed. What is measured, and how, is told in docs/performance.md.
"""
