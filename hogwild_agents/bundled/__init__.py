"""The model that comes with the package: a toy that speaks one small language.

It does lists of small sums together with other copies of itself through the shared cache, in the
formats of the ordinary layouts, policies and prompts. It is there for demos, tests and teaching.
``python -m hogwild_agents.bundled.train`` makes it anew.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["bundled_path"]


def bundled_path() -> Path:
    """The folder of the bundled model, as ``from_pretrained`` takes it."""
    return Path(__file__).parent / "model"
