"""Cases: what attends to what, drawn by hypothesis, for the tests of the kernels."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from hogwild_agents.bench.scene import Case
from hogwild_agents.engine.reach import FULL, Reach


@st.composite
def drawn_cases(draw: st.DrawFn, key_dims: list[int], value_dims: list[int]) -> Case:
    """Small cases of every kind; values are as wide as keys, or have other sizes."""
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 3), (2, 2), (3, 1), (1, 7)]))
    key_dim = draw(st.sampled_from(key_dims))
    turning = draw(st.sampled_from([0, 4, 6, key_dim]))
    sizes = st.integers(1, 12)
    return Case(
        heads=kv_heads * group,
        kv_heads=kv_heads,
        key_dim=key_dim,
        value_dim=draw(st.sampled_from([key_dim, *value_dims])),
        dtype=draw(st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16])),
        turning=turning,
        pairing=draw(st.sampled_from(["halves", "neighbours"])),
        start=draw(st.sampled_from([0, key_dim - turning])),
        reach=draw(
            st.one_of(
                st.just(FULL),
                st.builds(Reach, st.just("sliding"), sizes),
                st.builds(Reach, st.just("chunked"), sizes),
            )
        ),
        sinks=draw(st.booleans()),
        softcap=draw(st.sampled_from([None, 2.0])),
        workers=draw(st.integers(1, 3)),
        shared=draw(st.integers(0, 30)),
        own=draw(st.integers(0, 9)),
        fed=draw(st.sampled_from([(1,), (1,), (1, 3), (4, 1, 2)])),
    )
