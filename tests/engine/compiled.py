"""``python -m tests.engine.compiled 80 90``: compile the kernels for GPUs that need not be here.

Prints for each which kinds of instructions matter in it.
"""

from __future__ import annotations

import itertools
import re
import sys
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hogwild_agents.engine import gpu_attention

TABLES = dict.fromkeys(("items", "ends", "rows", "addresses", "slots", "partials"), "*i64")
NUMBERS = dict.fromkeys(("cosines", "sines", "outs", "lses"), "*fp32")
STATES = dict.fromkeys(("queries", "keys", "values", "sinks", "result"), "*bf16")
SCALARS = {"scale": "fp32", "softcap": "fp32"}
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
)  # fmt: skip


def compiled(function: Any, constants: dict[str, Any], capability: int) -> str:
    """Return the assembly of a kernel."""
    kinds = {**TABLES, **NUMBERS, **STATES, **SCALARS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, "i32") for name in function.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(signature)
        if signature[name].startswith("*") or name in ("room", "token_stride", "head_stride")
    }
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True}
    assembly: str = triton.compile(source, target=target, options=options).asm["ptx"]
    return assembly


if __name__ == "__main__":
    for capability, (function, constants) in itertools.product(sys.argv[1:], CASES):
        text = compiled(function, constants, int(capability))
        print(function.__name__, *sorted(set(re.findall(r"cp\.async\.c\w+|w?g?mma", text))))
