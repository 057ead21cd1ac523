"""Room: whether the weights of a checkpoint find any, before they are read.

transformers leaves a tensor of a safetensors file where it is: its pages are read from the file
when they are needed, and forgotten when something else needs the room. So a model in the dtype of
its files runs, if slowly, in less memory than it has weights. What has to be computed from the
files takes memory: tensors in another dtype, several put together as one, and copies rounded to
int8. Linux ends a process that takes more of it than there is, without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hogwild_agents.control_groups import GROUPS, MOUNT, folders, read
from hogwild_agents.errors import ModelError
from hogwild_agents.model_class import precise_parts

if TYPE_CHECKING:
    import torch

__all__ = ["TensorHead", "check_room", "free_memory", "in_gib", "needs_of"]

MEMORY, ZFS = Path("/proc/meminfo"), Path("/proc/spl/kstat/zfs/arcstats")

_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MOST = 6
"""Bytes that a weight takes at most: a float32, and its part of a copy rounded to int8."""
_WIDTHS = 64
"""What the inputs of a layer are a multiple of if it can be rounded, whatever the processor."""

TensorHead = tuple[tuple[int, ...], str]
"""What a safetensors file says of a tensor: its shape and its dtype, such as ``"BF16"``."""


@dataclass(frozen=True)
class Needs:
    """The bytes that a load takes at least.

    Attributes:
        cast: of tensors that the files have in another dtype.
        joined: of tensors that are put together of several.
        rounded: of copies rounded to int8.
    """

    cast: int = 0
    joined: int = 0
    rounded: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.cast + self.joined + self.rounded


def check_room(
    where: str,
    heads: Iterable[TensorHead],
    model: Callable[[], Any],
    dtype: torch.dtype | None,
    *,
    int8: bool,
    direct: bool,
) -> None:
    """Check that there is memory for what has to be computed from the files.

    Args:
        where: what errors call the checkpoint.
        heads: of the tensors in its files.
        model: returns the model without its weights, or raises what loading it will raise too;
            called only if the memory may be too small.
        dtype: what it is loaded in, or None for what the files have.
        int8: whether linear layers and experts get rounded copies.
        direct: whether the weights stay on the CPU.

    Raises:
        ModelError: there is not.
    """
    heads = list(heads)
    free = free_memory()
    if free is None or _MOST * sum(prod(shape) for shape, _ in heads) <= free:
        return
    try:
        outline = model()
    except Exception:
        return
    needs = needs_of(heads, outline, dtype, int8=int8)
    if needs.total <= free:
        return
    built = needs.cast + needs.joined
    kind = "" if dtype is None else f" in {str(dtype).removeprefix('torch.')}"
    parts = [f"{in_gib(built)} of memory{kind}"] * bool(built)
    parts += [f"{in_gib(needs.rounded)} of memory rounded to int8"] * bool(needs.rounded)
    sizes: Counter[str] = Counter()
    for shape, stored in heads:
        sizes[stored] += prod(shape)
    own = _NAMES.get(sizes.most_common(1)[0][0])
    advice = [f"give the dtype {own!r}, in which they stay in their files"] * bool(needs.cast)
    advice += ["leave int8_weights out"] * bool(needs.rounded and not needs.cast)
    advice += ["place them by a device_map in model_options"] * (not direct)
    raise ModelError(
        f"The weights of {where!r} take at least {' and '.join(parts)}, but "
        f"{in_gib(free)} are free: {''.join(f'{one}, ' for one in advice)}"
        f"{'or ' if advice else ''}take a smaller model, or another machine."
    )


def needs_of(
    heads: Iterable[TensorHead], model: Any, dtype: torch.dtype | None, *, int8: bool
) -> Needs:
    """Return what loading takes at least, besides the files.

    A parameter that the files have by its shape and dtype takes nothing. One that they have in
    another dtype is cast. One that they have not may be a piece of a tensor, unless it is larger
    than all that is left of them: then it is put together.

    Args:
        heads: of the tensors in the files.
        model: without its weights.
        dtype: what it is loaded in, or None for what the files have.
        int8: whether linear layers and experts get rounded copies.
    """
    import torch

    codes = {getattr(torch, name): code for code, name in _NAMES.items()}
    heads = list(heads)
    left, shapes = Counter(heads), Counter(shape for shape, _ in heads)
    precise = precise_parts(model, dtype)
    absent: list[tuple[tuple[int, ...], int, int]] = []  # shape, numbers, bytes of each
    for name, tensor in model.named_parameters():
        wanted = torch.float32 if any(part in name for part in precise) else dtype
        shape = tuple(tensor.shape)
        head = (shape, "" if wanted is None else codes.get(wanted, ""))
        if wanted is None and shapes[shape]:
            shapes[shape] -= 1
        elif left[head]:
            left[head] -= 1
            shapes[shape] -= 1
        else:
            absent.append((shape, tensor.numel(), 1 if wanted is None else wanted.itemsize))
    cast, others = 0, []
    for shape, count, size in absent:
        if shapes[shape] > 0:
            shapes[shape] -= 1
            cast += count * size
        else:
            others.append((count, size))
    largest = max((prod(shape) for shape, number in shapes.items() if number > 0), default=0)
    joined = sum(count * size for count, size in others if count > largest)
    return Needs(cast, joined, sum(map(_rounded, model.modules())) if int8 else 0)


def _rounded(module: Any) -> int:
    """Return the bytes of a module's copies rounded to int8: of a linear layer, or of experts."""
    from torch import nn

    from hogwild_agents.engine.experts import are_plain

    whole = type(module) is nn.Linear or are_plain(module)
    weights = [one for one in module.parameters(recurse=False) if one.dim() > 1] if whole else []
    if any(weight.shape[-1] % _WIDTHS for weight in weights):
        return 0
    return sum(weight.numel() + 4 * weight.numel() // weight.shape[-1] for weight in weights)


# -- what is free


def free_memory(
    memory: Path = MEMORY, groups: Path = GROUPS, mount: Path = MOUNT, zfs: Path = ZFS
) -> int | None:
    """Return how many bytes this process can still take, swap included.

    That is what the machine has, or less if a control group (a container) allows less. None where
    that cannot be told.
    """
    known = _numbers(read(memory))
    if "MemAvailable" not in known:
        return None
    swap = 1024 * known.get("SwapFree", 0)
    arc = _numbers(read(zfs))  # a cache that gives way, but does not count as available
    kept = max(0, arc.get("size", 0) - arc.get("c_min", 0))
    machine = 1024 * known["MemAvailable"] + swap + kept
    allowed = (room for one in folders("memory", groups, mount) for room in _room(one, swap))
    return max(0, min([machine, *allowed]))


def _room(folder: Path, swap: int) -> Iterator[int]:
    """Yield what one group still allows, by either version of Linux's control groups."""
    files = _numbers(read(folder / "memory.stat"))
    limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
    if limit is not None and used is not None:
        files_kept = files.get("active_file", 0) + files.get("inactive_file", 0)
        most, taken = _number(folder / "memory.swap.max"), _number(folder / "memory.swap.current")
        beside = swap if most is None else max(0, min(swap, most - (taken or 0)))
        yield limit - used + files_kept + beside
    files_kept = files.get("total_active_file", 0) + files.get("total_inactive_file", 0)
    for kind, beside in (("memory", swap), ("memory.memsw", 0)):  # memory, and with swap
        limit = _number(folder / f"{kind}.limit_in_bytes")
        used = _number(folder / f"{kind}.usage_in_bytes")
        if limit is not None and used is not None:
            yield limit - used + files_kept + beside


def _number(file: Path) -> int | None:
    text = read(file).strip()
    return int(text) if text.isdecimal() else None


def _numbers(text: str) -> dict[str, int]:
    """Return the numbers of a table whose lines are a name, perhaps a type, a number, a unit."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        numbers = [word for word in words[1:] if word.isdecimal()]
        if numbers:
            found[words[0].rstrip(":")] = int(numbers[-1])
    return found


def in_gib(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 2**30:.1f} GiB"
