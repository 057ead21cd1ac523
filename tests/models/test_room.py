"""A model that cannot be loaded into the memory there is, is refused before it is read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from hogwild_agents import load_model, room
from hogwild_agents.checkpoint import Checkpoint, find_checkpoint, read_config
from hogwild_agents.engine.compiled import works
from hogwild_agents.errors import ModelError
from hogwild_agents.model_class import outline_of
from hogwild_agents.weights import _cached_heads, _read_heads, read_weights
from tests.engine.families import SUPPORTED
from tests.models.folders import save, tiny_llama

CPU = torch.device("cpu")
MIB = 2**20


def needs(folder: Path, dtype: torch.dtype | None, *, int8: bool = False) -> room.Needs:
    outline = outline_of(AutoConfig.from_pretrained(folder))[1]
    return room.needs_of(_read_heads(folder), outline, dtype, int8=int8)


def outside(model: Any, folder: Path) -> int:
    """How many bytes of a model's parameters do not lie in its files."""
    files: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(folder) in line:
            start, _, stop = line.split()[0].partition("-")
            files.append((int(start, 16), int(stop, 16)))
    places = {tensor.data_ptr(): tensor.nbytes for tensor in model.parameters()}
    return sum(
        count for place, count in places.items() if not any(a <= place < b for a, b in files)
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of what is mapped")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name",
    ["llama", "phi3", "gemma3-whole", "ernie-4.5-moe", "mixtral", "deepseek-v3", "qwen3-vl-moe"],
)
def test_what_a_load_takes_is_known_before_to_the_byte(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    if not SUPPORTED[name].available:
        pytest.skip("the installed transformers has no such family")
    SUPPORTED[name].build().to(torch.bfloat16).save_pretrained(tmp_path)
    checkpoint, config = find_checkpoint(tmp_path, None), AutoConfig.from_pretrained(tmp_path)
    model = read_weights(checkpoint, config, dtype=dtype, device=CPU)
    assert needs(tmp_path, dtype).total == outside(model, tmp_path)


@pytest.mark.parametrize("said", ["float32", "bfloat16", None])
def test_the_dtype_of_a_whole_config_counts_not_that_of_its_text(
    tmp_path: Path, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    SUPPORTED["gemma3-whole"].build().to(torch.bfloat16).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["dtype"], config["text_config"]["dtype"] = said, "float32"
    file.write_text(json.dumps(config))
    asked: list[torch.dtype | None] = []

    def check(*args: Any, **options: Any) -> None:
        asked.append(args[3])

    monkeypatch.setattr("hogwild_agents.weights.check_room", check)
    checkpoint = find_checkpoint(tmp_path, None)
    model = read_weights(checkpoint, read_config(checkpoint), dtype="auto", device=CPU)
    assert model.dtype == (torch.float32 if said == "float32" else torch.bfloat16)
    assert asked == [getattr(torch, said) if said else None]


def test_in_the_dtype_of_its_files_a_model_takes_nothing(tmp_path: Path) -> None:
    count = sum(tensor.numel() for tensor in tiny_llama().parameters())
    save(tiny_llama(), tmp_path)
    assert needs(tmp_path, torch.float32) == needs(tmp_path, None) == room.Needs()
    assert needs(tmp_path, torch.bfloat16) == room.Needs(cast=2 * count)


def test_copies_rounded_to_int8_are_counted(tmp_path: Path) -> None:
    if not works():
        pytest.skip("nothing can be compiled here")
    save(tiny_llama(hidden_size=64, intermediate_size=128, head_dim=16), tmp_path)
    with load_model(tmp_path, int8_weights=True) as model:
        assert needs(tmp_path, torch.float32, int8=True).rounded == model.engine.int8_bytes > 0


# -- too little memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    return save(tiny_llama(**sizes), tmp_path / "tiny")


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how much memory is free."""

    def leave(count: int) -> None:
        monkeypatch.setattr(room, "free_memory", lambda: count)

    return leave


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dtype": "bfloat16"},
            r"The weights of '.*tiny' take at least 0.0 GiB of memory in bfloat16, but 0.0 GiB are "
            r"free: give the dtype 'float32', in which they stay in their files, or take a smaller "
            r"model, or another machine\.$",
        ),
        (
            {"int8_weights": True},
            r"take at least 0.0 GiB of memory rounded to int8, but 0.0 GiB are free: leave "
            r"int8_weights out, or take a smaller model, or another machine\.$",
        ),
        (
            {"dtype": "float16", "int8_weights": True},
            r"take at least 0.0 GiB of memory in float16 and 0.0 GiB of memory rounded to",
        ),
    ],
)
def test_too_little_memory_is_told_before_anything_is_read(
    folder: Path,
    little: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    options: Any,
    message: str,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("hogwild_agents.weights._load", load)
    little(1000)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder, device="cpu", **options)
    assert "\n" not in str(caught.value)


def test_what_stays_in_its_files_needs_no_free_memory(
    folder: Path, little: Callable[[int], None]
) -> None:
    little(0)
    load_model(folder, device="cpu").close()
    load_model(folder, device="cpu", dtype="float32").close()


def test_what_fits_is_loaded(folder: Path, little: Callable[[int], None]) -> None:
    little(needs(folder, torch.bfloat16).total)
    load_model(folder, device="cpu", dtype="bfloat16").close()


def test_where_the_free_memory_is_not_known_nothing_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: None)
    load_model(folder, device="cpu", dtype="bfloat16").close()


def test_on_the_way_to_another_device_there_is_a_way_around(
    folder: Path, little: Callable[[int], None]
) -> None:
    little(0)
    config, heads = AutoConfig.from_pretrained(folder), _read_heads(folder)
    with pytest.raises(ModelError, match="place them by a device_map in model_options, or take"):
        room.check_room(
            "tiny", heads, lambda: outline_of(config)[1], torch.float16, int8=False, direct=False
        )


def test_of_an_id_the_files_count_that_are_here_already(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(name: str, file: str, **_: object) -> str | None:
        return str(folder / file) if (folder / file).exists() else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look)
    checkpoint = Checkpoint("some/model", None, None)
    assert _cached_heads(checkpoint, {}) == _read_heads(folder) != []
    (folder / "model.safetensors").unlink()
    assert _cached_heads(checkpoint, {}) == []


def test_a_file_that_cannot_be_mapped_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux maps no file that is larger than all of the memory and the swap."""

    def map_file(file: Path, framework: str) -> None:
        raise RuntimeError("unable to mmap 32212255000 bytes: Cannot allocate memory (12)")

    monkeypatch.setattr("safetensors.safe_open", map_file)
    message = r"model.safetensors' of 0.0 GiB cannot be mapped .* \(unable .*\): save the model aga"
    with pytest.raises(ModelError, match=message):
        load_model(folder)


# -- what is free


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def free(folder: Path, **files: str) -> int | None:
    """What is free by files of a machine with 100 MiB, and 10 MiB of swap, in MiB."""
    for name, text in files.items():
        write(folder / "mount" / name, text)
    lines = f"MemTotal: 1 kB\nMemAvailable: {100 * 1024} kB\n\nSwapFree:  {10 * 1024} kB\n"
    memory = write(folder / "meminfo", lines)
    groups = write(folder / "groups", "4:memory:/pod\n0::/pod\n")
    found = room.free_memory(memory, groups, folder / "mount", folder / "arcstats")
    return None if found is None else found // MIB


def test_memory_and_swap_are_free(tmp_path: Path) -> None:
    assert free(tmp_path) == 110


def test_what_zfs_gives_way_is_free(tmp_path: Path) -> None:
    lines = f"1 1 0x01 98 26656 1\nname  type data\nsize  4  {30 * MIB}\nc_min  4  {10 * MIB}\n"
    write(tmp_path / "arcstats", lines)
    assert free(tmp_path) == 130


@pytest.mark.parametrize("text", [None, "", "MemFree: 100 kB\n"])
def test_what_is_free_may_not_be_known(tmp_path: Path, text: str | None) -> None:
    memory = tmp_path / "meminfo"
    if text is not None:
        memory.write_text(text)
    assert room.free_memory(memory, tmp_path, tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "swap", "expected"),
    [
        ("max", "0", 110),
        (f"{60 * MIB}", "max", 60 - 20 + 5 + 10),
        (f"{60 * MIB}", "0", 60 - 20 + 5),
        (f"{60 * MIB}", f"{3 * MIB}", 60 - 20 + 5 + 2),
        (f"{600 * MIB}", "max", 110),
        (f"{10 * MIB}", "0", 0),
    ],
)
def test_a_container_may_allow_less(tmp_path: Path, limit: str, swap: str, expected: int) -> None:
    files = {
        "pod/memory.max": limit,
        "pod/memory.current": f"{20 * MIB}",
        "pod/memory.swap.max": swap,
        "pod/memory.swap.current": f"{MIB}",
        "pod/memory.stat": f"anon {9 * MIB}\nactive_file {2 * MIB}\ninactive_file {3 * MIB}\n",
    }
    assert free(tmp_path, **files) == expected


@pytest.mark.parametrize(
    ("both", "expected"), [(2**63 - 4096, 40 - 15 + 4 + 10), (42 * MIB, 42 - 16 + 4)]
)
def test_limits_of_the_first_version_count(tmp_path: Path, both: int, expected: int) -> None:
    kept = f"total_active_file {MIB}\ntotal_inactive_file {3 * MIB}"
    files = {
        "memory/pod/memory.limit_in_bytes": f"{40 * MIB}",
        "memory/pod/memory.usage_in_bytes": f"{15 * MIB}",
        "memory/pod/memory.memsw.limit_in_bytes": f"{both}",
        "memory/pod/memory.memsw.usage_in_bytes": f"{16 * MIB}",
        "memory/pod/memory.stat": f"cache 7\n{kept}",
    }
    assert free(tmp_path, **files) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_this_machine_tells() -> None:
    found = room.free_memory()
    assert found is not None
    assert found > 0
    assert re.fullmatch(r"\d+\.\d GiB", room.in_gib(found))
