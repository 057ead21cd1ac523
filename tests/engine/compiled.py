"""``python -m tests.engine.compiled 80 90``: compile the kernels for GPUs that need not be here.

Prints a line of JSON for each. Where shapes of models are cut for such a GPU, it also has the fast
memory that the program takes, what the cut says of that and what a program may have, and how many
groups of copies are left under way at the least while a tile is multiplied.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hogwild_agents.bench.kernel import KINDS
from hogwild_agents.bench.scene import Scene
from hogwild_agents.engine import gpu_attention, gpu_rows
from hogwild_agents.engine.gpu_tick import PRECISION, TYPES, Cut
from hogwild_agents.engine.schedule import Tile, tuning_for

TABLES = dict.fromkeys(("items", "ends", "rows", "addresses", "slots", "partials"), "*i64")
NUMBERS = dict.fromkeys(("cosines", "sines", "outs", "lses"), "*fp32")
STATES = ("queries", "keys", "values", "sinks", "result", "states", "weights", "results", "gates")
SCALARS = {"scale": "fp32", "softcap": "fp32", "epsilon": "fp32"}
HEAD = {"KEY_DIM": 96, "VALUE_DIM": 128, "BLOCK_K": 128, "BLOCK_V": 128}
CASES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (
        gpu_attention.hogwild_attend,
        {
            **HEAD, "GROUP": 7, "ROPE_START": 32, "PAIRS": 32, "NEIGHBOURS": True, "CAPPED": True,
            "DTYPE": tl.bfloat16, "PRECISION": "tf32x3", "BLOCK_M": 16, "BLOCK_N": 32,
        },
    ),
    (gpu_attention.hogwild_store, {**HEAD, "DTYPE": tl.bfloat16, "BLOCK_T": 16}),
    (
        gpu_attention.hogwild_merge,
        {"GROUP": 7, "VALUE_DIM": 128, "SINKS": True, "BLOCK_S": 32, "BLOCK_V": 128},
    ),
    (
        gpu_rows.hogwild_norm,
        {
            "COUNT": 5120, "WEIGHTED": True, "ROUNDED": True, "PLUS_ONE": True, "BLOCK_R": 1,
            "BLOCK": 8192,
        },
    ),
    (gpu_rows.hogwild_gate, {"SMOOTH": True, "BLOCK": 1024}),
)  # fmt: skip
FAST = {80: 164 << 10, 86: 100 << 10, 90: 228 << 10}
"""Bytes of fast memory of a multiprocessor, by compute capability."""


@dataclass(frozen=True)
class Shape:
    """A layer, and how many rows read its longest stretch."""

    name: str
    rows: int
    dtype: torch.dtype = torch.bfloat16


SHAPES = (
    Shape("qwen3-32b", 1), Shape("qwen3-32b", 8), Shape("qwen3-32b", 16), Shape("qwen2.5-0.5b", 16),
    Shape("softcap, head 256", 64), Shape("qwen3-8b", 2, torch.float32),
    Shape("qwen2.5-0.5b", 16, torch.float32), Shape("softcap, head 256", 1, torch.float32),
    Shape("mla", 4),
)  # fmt: skip


def compiled(
    function: Any, constants: dict[str, Any], capability: int, warps: int = 4, stages: int = 3
) -> Any:
    """Return a kernel that triton has built, for states in the dtype that it has."""
    single = constants.get("DTYPE") == tl.float32
    kinds = {**TABLES, **NUMBERS, **dict.fromkeys(STATES, "*fp32" if single else "*bf16")}
    kinds |= {**SCALARS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, "i32") for name in function.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(signature)
        if signature[name].startswith("*") or name == "room" or name.endswith("_stride")
    }
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    return triton.compile(source, target=target, options=options)


def cut(shape: Shape, capability: int) -> dict[str, Any]:
    """Return what becomes of a shape on a GPU."""
    tuning = tuning_for(108, FAST[capability], divmod(capability, 10))
    case = replace(KINDS[shape.name], dtype=shape.dtype)
    how = Scene(case, torch.device("cpu")).adapter.layers[0]
    tile = Tile.of(how, tuning, shape.rows)
    found = Cut.of(how, tile)
    constants = {
        "GROUP": how.heads // how.shape.kv_heads, "KEY_DIM": how.shape.key_dim,
        "VALUE_DIM": how.shape.value_dim, "ROPE_START": 0, "PAIRS": how.shape.key_dim // 2,
        "NEIGHBOURS": False, "CAPPED": how.softcap is not None, "DTYPE": TYPES[shape.dtype],
        "PRECISION": PRECISION, "BLOCK_M": tile.block, "BLOCK_N": found.slots,
        "BLOCK_K": found.key_dim, "BLOCK_V": found.value_dim,
    }  # fmt: skip
    built = compiled(gpu_attention.hogwild_attend, constants, capability, found.warps, found.stages)
    waits = re.findall(r"async_wait.*num = (\d+)", built.asm["ttgir"])
    return {
        "cut": f"{shape} on {capability}: {tile.block} rows, {found}",
        "shared": built.metadata.shared,
        "said": found.bytes,
        "most": tuning.fast_bytes * found.warps // 4,
        "under way": max(map(int, waits), default=0),
        "stages": found.stages,
    }


if __name__ == "__main__":
    for capability, (function, constants) in itertools.product(sys.argv[1:], CASES):
        text = compiled(function, constants, int(capability)).asm["ptx"]
        found = sorted(set(re.findall(r"cp\.async\.c\w+|w?g?mma", text)))
        print(json.dumps({"kernel": function.__name__, "instructions": found}))
    for capability, shape in itertools.product(sys.argv[1:], SHAPES):
        print(json.dumps(cut(shape, int(capability))), flush=True)
