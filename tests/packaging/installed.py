"""What a fresh install of the wheel must hold; `make check` runs this in a clean venv.

Run it with ``python -I``, so that nothing of the working tree is on the path.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata, resources
from pathlib import Path

MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def check() -> None:
    package = import_module("hogwild_agents")
    assert package.__file__ is not None
    home = Path(package.__file__).resolve().parent
    assert home.is_relative_to(Path(sys.prefix).resolve()), f"imported from {home}"

    for name in package.__all__:
        getattr(package, name)
    for part in ("policies", "prompts", "cli.app"):
        import_module(f"hogwild_agents.{part}")

    files = metadata.files("hogwild-agents") or []
    tops = {file.parts[0] for file in files if not file.parts[0].endswith(".dist-info")}
    assert tops <= {"hogwild_agents", ".."}, f"the wheel installs {sorted(tops)}"

    root = resources.files("hogwild_agents")
    assert (root / "py.typed").is_file()
    prompts = resources.files("hogwild_agents.prompts")
    assert any(file.name.endswith(".md") for file in prompts.iterdir())
    model = {file.name for file in (root / "bundled" / "model").iterdir()}
    assert model >= MODEL_FILES, f"the bundled model lacks {sorted(MODEL_FILES - model)}"
    print(f"hogwild-agents {metadata.version('hogwild-agents')} is whole in {home}")


if __name__ == "__main__":
    check()
