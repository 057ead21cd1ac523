"""A Hugging Face id without a network: what the cache has is used, or one sentence says what to do.

The network is that of the machine: a port on which nobody listens is a hub that is not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hogwild_agents.checkpoint import find_here
from hogwild_agents.errors import ModelError
from tests.cli.first_run import unprompted
from tests.models.folders import save, tiny_llama

NAME = "somebody/tiny-llama"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOBODY = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
FORBIDDEN = {"HF_HUB_OFFLINE": "1"}


def hogwild(home: Path, network: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    """Run the command with a cache in ``home``; return its exit code and its lines on stderr."""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    done = subprocess.run(
        [sys.executable, "-m", "hogwild_agents.cli", *arguments],
        env={**kept, "HF_HOME": str(home), **network},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, unprompted(done.stderr).splitlines()


def cached(home: Path) -> Path:
    """Put a model into a cache, as huggingface_hub lays it out; return its folder."""
    repository = home / "hub" / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return save(tiny_llama(), repository / "snapshots" / COMMIT)


@pytest.mark.parametrize(
    "arguments", [["run", "x", "--model"], ["model", "check", "--from-config"]]
)
def test_a_hub_that_cannot_be_reached_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    code, lines = hogwild(tmp_path, NOBODY, *arguments, NAME)
    assert code == 2
    assert lines == [
        f"hogwild: The model '{NAME}' is neither a folder here nor in the cache of Hugging Face, "
        "and http://127.0.0.1:9 cannot be reached ([Errno 111] Connection refused): check the "
        "connection, or fetch the model elsewhere and give its folder."
    ]


def test_a_hub_that_may_not_be_asked_is_one_sentence(tmp_path: Path) -> None:
    code, lines = hogwild(tmp_path, FORBIDDEN, "run", "x", "--model", NAME)
    assert code == 2
    assert lines == [
        f"hogwild: The model '{NAME}' is neither a folder here nor in the cache of Hugging Face, "
        "and HF_HUB_OFFLINE forbids to fetch it: unset it, or give the model's folder."
    ]


@pytest.mark.parametrize("network", [NOBODY, FORBIDDEN])
def test_what_the_cache_has_needs_no_hub(network: dict[str, str], tmp_path: Path) -> None:
    cached(tmp_path)
    assert hogwild(tmp_path, network, "model", "check", NAME) == (0, [])


def test_what_the_cache_lacks_is_one_sentence(tmp_path: Path) -> None:
    (cached(tmp_path) / "model.safetensors").unlink()
    code, lines = hogwild(tmp_path, NOBODY, "model", "check", NAME)
    assert code == 2
    assert len(lines) == 1
    assert f"The weights of '{NAME}' (in the cache of Hugging Face) cannot be loaded" in lines[0]
    assert lines[0].endswith(
        ": check the connection, or fetch the model elsewhere and give its folder."
    )


@pytest.mark.parametrize("name", ["bundle", "Bundled", "bundeld"])
def test_a_misspelt_bundled_is_no_id(name: str) -> None:
    with pytest.raises(ModelError, match=f"There is no model '{name}': did you mean 'bundled'"):
        find_here(name)


def test_an_id_is_not_looked_for_here() -> None:
    assert find_here(NAME) is None
    assert find_here("gpt2") is None
