"""GPU attention: the kernels for one layer: store new keys, attend to blocks, merge.

Written in Triton, for tables that a :class:`~hogwild_agents.engine.schedule.Schedule` holds.
Whatever grows with the context is read from device memory, so launches with equal arguments
serve ticks with longer contexts. Importing this module imports triton.
"""

# No `from __future__ import annotations`: triton reads the annotations of constants.

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens"])
def hogwild_store(
    keys,  # [kv_heads, T, key_dim], by strides
    values,  # [kv_heads, T, value_dim], by strides
    slots,  # [T, 3] int64: number of the slab, its size, slot or -1
    addresses,  # [slabs, 2] int64: where the layer's keys and values begin
    tokens,
    key_head_stride,
    key_token_stride,
    value_head_stride,
    value_token_stride,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Copy the new keys and values of one head into their slots."""
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    head = tl.program_id(1).to(tl.int64)
    here = token < tokens
    slab = tl.load(slots + token * 3, mask=here, other=0)
    size = tl.load(slots + token * 3 + 1, mask=here, other=0)
    slot = tl.load(slots + token * 3 + 2, mask=here, other=-1)
    here = slot >= 0
    slot += head * size
    token = token.to(tl.int64)

    dim = tl.arange(0, BLOCK_K)[None, :]
    mask = here[:, None] & (dim < KEY_DIM)
    to = tl.load(addresses + slab * 2, mask=here, other=0).to(tl.pointer_type(DTYPE))
    source = keys + head * key_head_stride + token[:, None] * key_token_stride + dim
    tl.store(to[:, None] + slot[:, None] * KEY_DIM + dim, tl.load(source, mask=mask), mask=mask)

    dim = tl.arange(0, BLOCK_V)[None, :]
    mask = here[:, None] & (dim < VALUE_DIM)
    to = tl.load(addresses + slab * 2 + 1, mask=here, other=0).to(tl.pointer_type(DTYPE))
    source = values + head * value_head_stride + token[:, None] * value_token_stride + dim
    tl.store(to[:, None] + slot[:, None] * VALUE_DIM + dim, tl.load(source, mask=mask), mask=mask)


@triton.jit
def turned(
    queries,  # [rows, 1] pointers to the first dimension
    angles,  # [rows, 1] numbers of rows of the tables
    mask,  # [rows, 1]
    cosines,
    sines,
    DIM: tl.constexpr,
    START: tl.constexpr,
    PAIRS: tl.constexpr,
    NEIGHBOURS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Load queries [rows, BLOCK] and rotate them: float32, rounded once to their dtype."""
    dim = tl.arange(0, BLOCK)[None, :]
    loaded = tl.load(queries + dim, mask=mask & (dim < DIM), other=0.0)
    if PAIRS:
        place = dim - START
        turning = (place >= 0) & (place < 2 * PAIRS)
        if NEIGHBOURS:
            pair, first = place // 2, place % 2 == 0
            other = tl.where(first, dim + 1, dim - 1)
        else:
            pair, first = place % PAIRS, place < PAIRS
            other = tl.where(first, dim + PAIRS, dim - PAIRS)
        turning = mask & turning
        cos = tl.load(cosines + angles * PAIRS + pair, mask=turning, other=1.0)
        sin = tl.load(sines + angles * PAIRS + pair, mask=turning, other=0.0)
        partner = tl.load(queries + other, mask=turning, other=0.0).to(tl.float32)
        partner = tl.where(first, -partner, partner)
        loaded = (loaded.to(tl.float32) * cos + partner * sin).to(loaded.dtype)
    return loaded


@triton.jit
def hogwild_attend(
    queries,  # [heads, T, key_dim], by strides
    cosines,  # [angles, PAIRS] float32
    sines,
    items,  # [items, 8] int64: see Schedule
    ends,  # [programs + 1] int64: the first item of each program
    rows,  # [rows, 4] int64: token, angle, first and last slot that it sees
    addresses,  # [slabs, 2] int64
    outs,  # [kv_heads, room, GROUP, VALUE_DIM] float32: partial results
    lses,  # [kv_heads, room, GROUP] float32: their log-sum-exps
    head_stride,
    token_stride,
    room,
    scale,
    softcap,
    GROUP: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    ROPE_START: tl.constexpr,
    PAIRS: tl.constexpr,
    NEIGHBOURS: tl.constexpr,
    CAPPED: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Attend with the rows of each item of this program to the item's slots, for one kv head.

    The heads of a group stand side by side as rows of one tile: each key is read once for all.
    """
    kv_head = tl.program_id(1).to(tl.int64)
    member = tl.arange(0, BLOCK_M) % GROUP
    number = tl.arange(0, BLOCK_M) // GROUP
    slots = tl.arange(0, BLOCK_N)
    key_dim = tl.arange(0, BLOCK_K)
    value_dim = tl.arange(0, BLOCK_V)
    first_item = tl.load(ends + tl.program_id(0))
    last_item = tl.load(ends + tl.program_id(0) + 1)
    for item in range(first_item, last_item):
        at = items + item * 8
        slab = tl.load(at)
        size = tl.load(at + 1)
        start = tl.load(at + 2)
        count = (tl.load(at + 3) - start).to(tl.int32)
        row = tl.load(at + 4)
        partial = tl.load(at + 6)
        live = number < tl.load(at + 5)

        about = rows + (row + number) * 4
        token = tl.load(about, mask=live, other=0)
        angle = tl.load(about + 1, mask=live, other=0)
        low = (tl.load(about + 2, mask=live, other=0) - start).to(tl.int32)[:, None]
        high = (tl.load(about + 3, mask=live, other=0) - start).to(tl.int32)[:, None]
        query = queries + (kv_head * GROUP + member) * head_stride + token * token_stride
        query = turned(
            query[:, None], angle[:, None], live[:, None], cosines, sines,
            KEY_DIM, ROPE_START, PAIRS, NEIGHBOURS, BLOCK_K,
        ).to(DTYPE)  # fmt: skip

        # The blocks of memory begin at multiples of 16 bytes; saying so gives wide loads.
        keys = tl.load(addresses + slab * 2).to(tl.pointer_type(DTYPE))
        values = tl.load(addresses + slab * 2 + 1).to(tl.pointer_type(DTYPE))
        keys = tl.multiple_of(keys, 16) + (kv_head * size + start) * KEY_DIM
        values = tl.multiple_of(values, 16) + (kv_head * size + start) * VALUE_DIM
        top = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        out = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
        for done in range(0, count, BLOCK_N):
            slot = done + slots
            there = slot < count
            key = tl.load(
                keys + slot[None, :] * KEY_DIM + key_dim[:, None],
                mask=there[None, :] & (key_dim[:, None] < KEY_DIM),
                other=0.0,
            )
            scores = tl.dot(query, key, input_precision=PRECISION) * scale
            if CAPPED:
                small = tl.exp(-2 * tl.abs(scores) / softcap)
                bent = softcap * (1 - small) / (1 + small)
                scores = tl.where(scores < 0, -bent, bent)
            seen = there[None, :] & (slot[None, :] >= low) & (slot[None, :] <= high)
            scores = tl.where(seen, scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, 1))
            base = tl.where(new_top == float("-inf"), 0.0, new_top)  # a row may see nothing yet
            weights = tl.exp(scores - base[:, None])
            kept = tl.exp(top - base)
            value = tl.load(
                values + slot[:, None] * VALUE_DIM + value_dim[None, :],
                mask=there[:, None] & (value_dim[None, :] < VALUE_DIM),
                other=0.0,
            )
            total = total * kept + tl.sum(weights, 1)
            out = out * kept[:, None]
            out = tl.dot(weights.to(DTYPE), value, acc=out, input_precision=PRECISION)
            top = new_top

        blind = total == 0.0
        total = tl.where(blind, 1.0, total)
        lse = tl.where(blind, float("-inf"), top + tl.log(total))
        place = (kv_head * room + partial + number) * GROUP + member
        tl.store(lses + place, lse, mask=live)
        tl.store(
            outs + place[:, None] * VALUE_DIM + value_dim[None, :],
            out / total[:, None],
            mask=live[:, None] & (value_dim[None, :] < VALUE_DIM),
        )


@triton.jit
def hogwild_merge(
    outs,  # [kv_heads, room, GROUP, VALUE_DIM] float32
    lses,  # [kv_heads, room, GROUP] float32
    ends,  # [T + 1] int64: the first entry of each token
    partials,  # [entries] int64: which partial results are a token's
    sinks,  # [heads]
    result,  # [T, heads, VALUE_DIM]
    room,
    GROUP: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    SINKS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Join the partial results of one token and head into one softmax."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    kv_head = (head // GROUP).to(tl.int64)
    value_dim = tl.arange(0, BLOCK_V)
    begin = tl.load(ends + token)
    end = tl.load(ends + token + 1)
    if SINKS:  # takes its share of the softmax and gives nothing
        top = tl.load(sinks + head).to(tl.float32)
        total = tl.full([], 1.0, tl.float32)
    else:
        top = tl.full([], float("-inf"), tl.float32)
        total = tl.full([], 0.0, tl.float32)
    out = tl.zeros([BLOCK_V], tl.float32)
    for done in range(begin, end, BLOCK_S):
        at = done + tl.arange(0, BLOCK_S)
        partial = tl.load(partials + at, mask=at < end, other=0)
        place = (kv_head * room + partial) * GROUP + head % GROUP
        lse = tl.load(lses + place, mask=at < end, other=float("-inf"))
        new_top = tl.maximum(top, tl.max(lse, 0))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = tl.exp(lse - base)
        kept = tl.exp(top - base)
        part = tl.load(
            outs + place[:, None] * VALUE_DIM + value_dim[None, :],
            mask=(at < end)[:, None] & (value_dim[None, :] < VALUE_DIM),
            other=0.0,
        )
        total = total * kept + tl.sum(weights, 0)
        out = out * kept + tl.sum(part * weights[:, None], 0)
        top = new_top
    out = out / tl.where(total == 0.0, 1.0, total)
    to = result + (token * tl.num_programs(1) + head) * VALUE_DIM + value_dim
    tl.store(to, out.to(result.dtype.element_ty), mask=value_dim < VALUE_DIM)
