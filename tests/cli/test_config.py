"""RunConfig: a file's values, the command line's over them, and one sentence for what is wrong."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any, get_args

import pytest

from hogwild_agents import load_model
from hogwild_agents.cli.build import load_options
from hogwild_agents.config import LayoutName, RunConfig
from hogwild_agents.errors import ConfigError
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.worker_names import worker_names


def write(folder: Path, text: str) -> Path:
    path = folder / "team.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        problem = "What is 6 x 7?"
        layout = "contiguous"
        budget = 2048
        temperature = 0.6
        top_k = 20
        workers = ["Alice", {name = "Bob", role = "I check."}]
        policies = ["stop-on-answer"]
        """,
    )
    config = RunConfig.load(path)
    assert config.problem == "What is 6 x 7?"
    assert (config.layout, config.budget, config.model) == ("contiguous", 2048, "bundled")
    assert [(worker.name, worker.role) for worker in config.team] == [
        ("Alice", ""),
        ("Bob", "I check."),
    ]
    assert config.sampling == {"temperature": 0.6, "top_k": 20}
    assert config.policies == ("stop-on-answer",)


def test_command_line_wins(tmp_path: Path) -> None:
    config = RunConfig.load(write(tmp_path, "budget = 100\nseed = 7\nworkers = 2"))
    merged = config.override({"budget": 200, "workers": ({"name": "Zoe"},)})
    assert (merged.budget, merged.seed) == (200, 7)
    assert [worker.name for worker in merged.team] == ["Zoe"]
    assert merged.model_fields_set == {"budget", "seed", "workers"}


def test_default_names_run_on_in_numbers() -> None:
    assert worker_names(3) == ("Alice", "Bob", "Carol")
    assert worker_names(10)[7:] == ("Heidi", "Worker9", "Worker10")
    assert [worker.name for worker in RunConfig(workers=2).team] == ["Alice", "Bob"]


def test_layouts_are_those_of_the_package() -> None:
    assert set(get_args(LayoutName)) == set(LAYOUTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("budgt = 5", "'budgt' is no option in the config {path}: did you mean 'budget'?"),
        ("zzz = 5", "'zzz' is no option in the config {path}: use problem, model, "),
        ("budget = 0", "budget cannot be 0 in the config {path}: it should be at least 1."),
        (
            "budget = '5 ticks'",
            "budget cannot be '5 ticks' in the config {path}: it should be a whole number.",
        ),
        ("top_p = 1.5", "top_p cannot be 1.5 in the config {path}: it should be at most 1."),
        ("workers = 'Al'", "workers is the string 'Al': give a number, or a list of names."),
        ("policies = 'x'", "policies cannot be 'x' in the config {path}: it should be a list."),
        ("kernels = 'x'", "kernels cannot be 'x' in the config {path}: it should be true or false"),
        ("model = ''", "model cannot be '' in the config {path}: it should not be empty."),
        ("save = 5", "save cannot be 5 in the config {path}: it should be a text."),
        ("budget = 2.5", "budget cannot be 2.5 in the config {path}: it should be a whole number."),
        ("budget = true", "budget cannot be True in the config {path}: it should be a whole numb"),
        (
            "rope_scaling = 5",
            "rope_scaling cannot be 5 in the config {path}: it should be a text or a table.",
        ),
        (
            "workers = 2.5",
            "workers cannot be 2.5 in the config {path}: it should be a whole number or a list.",
        ),
        ("workers = 0", "workers cannot be 0 in the config {path}: it should be at least 1."),
        (
            "workers = [1]",
            "workers.0 cannot be 1 in the config {path}: it should be a name or a table.",
        ),
        (
            'workers = ["A\\nB"]',
            "workers.0.name cannot be 'A\\nB' in the config {path}: it should be one line of text.",
        ),
        ("workers = []", "The list of workers is empty: name at least one."),
        (
            "workers = ['Al', 'Al']",
            "Two workers are called 'Al': give each a name of its own.",
        ),
        ("workers = [{name = 'Al', rol = 'x'}]", "'rol' is no option in the config {path}: did"),
        ("workers = [{role = 'x'}]", "workers.0.name is missing in the config {path}: add it."),
        (
            "layout = 'mesh'",
            "layout cannot be 'mesh' in the config {path}: it should be",
        ),
        ("budget = ", "The config {path} is no valid TOML: "),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        RunConfig.load(path)
    message = str(caught.value)
    assert message.startswith(expected.format(path=path))
    assert "\n" not in message
    assert message[-1] in ".?"


def test_what_it_says_of_the_model_reaches_the_loading_of_it() -> None:
    given: dict[str, Any] = {
        "kernels": False,
        "int8_weights": True,
        "graphs": False,
        "compile_layers": True,
    }
    options = load_options(RunConfig(**given))
    assert given.items() <= options.items()
    assert options.keys() <= signature(load_model).parameters.keys()
    known = RunConfig.model_fields.keys() & signature(load_model).parameters.keys()
    assert known <= options.keys()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "team.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"team\.toml"):
        RunConfig.load(path)


def test_option_is_named_as_it_was_typed() -> None:
    with pytest.raises(
        ConfigError, match=r"^--check-every cannot be 0: it should be at least 1\.$"
    ):
        RunConfig().override({"check_every": 0})
