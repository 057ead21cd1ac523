"""CPU dots: how few queries see a tile of keys, each by products of its own.

Queries that stand side by side in vectors fill them only if there are enough: one worker of a
model whose heads share keys by twos has 2 for 8 lanes. Here vectors run along the dimensions of a
head instead, and what is read of a key serves up to four queries.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

import math

from llvmlite import ir
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import float32, int64, void

from hogwild_agents.engine.vectors import (
    VECTOR,
    WIDTH,
    between,
    build_blocks,
    build_load,
    build_spread,
    build_totals,
    call,
    capped,
    counted,
    exp,
    get,
    largest,
    load,
    maximum,
    put,
    shifted,
    spread,
    store,
    total,
)

TILE = 32
"""Slots that are read at a time, a multiple of a vector."""
TOGETHER = 4
"""Queries for which a key is read once, at most."""
_SUMS = 8
"""Vectors of sums that registers hold."""
_NEVER = float32(-math.inf)


@intrinsic(prefer_literal=True)
def _scores(context, keys, dim, slots, queries, scores, several):
    """Multiply keys [slots, dim] with queries [several, dim]: scores [several, TILE]."""
    element, queries_at_once = keys.dtype, several.literal_value

    def build(context, builder, signature, args):
        keys, dim, slots, queries, scores, _ = args
        number = ir.IntType(64)

        def block(first, many):
            """Build the products of so many slots."""
            places = [(query, slot) for query in range(queries_at_once) for slot in range(many)]
            held = {at: cgutils.alloca_once(builder, VECTOR) for at in places}
            for place in held.values():
                builder.store(VECTOR(None), place)
            lines = [builder.mul(builder.add(first, number(slot)), dim) for slot in range(many)]
            begins = [builder.mul(dim, number(query)) for query in range(queries_at_once)]
            with cgutils.for_range_slice(builder, number(0), dim, number(WIDTH)) as (at, _):
                read = [
                    build_load(context, builder, keys, builder.add(line, at), element)
                    for line in lines
                ]
                for query, begin in enumerate(begins):
                    there = builder.add(begin, at)
                    beside = build_load(context, builder, queries, there, float32)
                    for slot in range(many):
                        place = held[query, slot]
                        sum = call(builder, "fma", read[slot], beside, builder.load(place))
                        builder.store(sum, place)
            sums = build_totals(builder, [builder.load(place) for place in held.values()])
            for query in range(queries_at_once):
                mine = [query * many + slot for slot in range(many)]
                part = builder.shuffle_vector(
                    sums, sums, ir.Constant(ir.VectorType(ir.IntType(32), many), mine)
                )
                to = builder.gep(scores, [builder.add(first, number(query * TILE))])
                builder.store(part, builder.bitcast(to, part.type.as_pointer()), align=4)

        build_blocks(builder, slots, _SUMS // queries_at_once, 1, block)
        return context.get_dummy_value()

    return void(keys, int64, int64, queries, scores, several), build


@intrinsic(prefer_literal=True)
def _add_values(context, values, dim, slots, weights, outs, several):
    """Add values [slots, dim], weighted [several, TILE], to outs [several, dim]."""
    element, queries_at_once = values.dtype, several.literal_value

    def build(context, builder, signature, args):
        values, dim, slots, weights, outs, _ = args
        number = ir.IntType(64)

        def block(first, many):
            """Build the sums of so many vectors of dimensions."""
            places = [(query, part) for query in range(queries_at_once) for part in range(many)]
            tos = {
                (query, part): builder.add(
                    builder.mul(dim, number(query)), builder.add(first, number(part * WIDTH))
                )
                for query, part in places
            }
            held = {at: cgutils.alloca_once(builder, VECTOR) for at in places}
            for at, place in held.items():
                builder.store(build_load(context, builder, outs, tos[at], float32), place)
            with cgutils.for_range(builder, slots) as loop:
                line = builder.add(builder.mul(loop.index, dim), first)
                read = [
                    build_load(
                        context, builder, values, builder.add(line, number(part * WIDTH)), element
                    )
                    for part in range(many)
                ]
                for query in range(queries_at_once):
                    there = builder.add(loop.index, number(query * TILE))
                    weight = build_spread(builder, builder.load(builder.gep(weights, [there])))
                    for part in range(many):
                        place = held[query, part]
                        sum = call(builder, "fma", weight, read[part], builder.load(place))
                        builder.store(sum, place)
            for at, place in held.items():
                to = builder.bitcast(builder.gep(outs, [tos[at]]), VECTOR.as_pointer())
                builder.store(builder.load(place), to, align=4)

        build_blocks(builder, dim, _SUMS // queries_at_once, WIDTH, block)
        return context.get_dummy_value()

    return void(values, int64, int64, weights, outs, several), build


@njit(nogil=True, error_model="numpy")
def _weigh(scores, slots, start, low, high, open, cap, tops, totals, outs, value_dim):
    """Turn a query's scores [slots] into weights, and rescale what was added up.

    Args:
        start: the number of the first slot, counted as ``low`` and ``high`` are.
        open: whether the query sees every slot.
        cap: bends the scores, if it is not 0.
        tops, totals: the query's own.
    """
    last = min(high, float32(start + slots - 1))
    masked = not open or slots % WIDTH != 0
    top = get(tops, 0)
    peaks = spread(top)
    for at in range(0, slots, WIDTH):
        score = load(scores, at)
        if cap != float32(0):
            score = capped(score, cap)
        if masked:
            here = counted(float32(start + at))
            score = between(spread(low), here, spread(last), score, spread(_NEVER))
        if masked or cap != float32(0):
            store(scores, at, score)
        peaks = maximum(peaks, score)
    highest = largest(peaks)
    # It may see nothing yet: its scores are all -inf, and their exponentials are to be 0.
    base = spread(max(highest, float32(-3e38)))
    sum = get(totals, 0)
    if highest > top:
        kept = exp(spread(top) - base)
        sum *= largest(kept)
        for at in range(0, value_dim, WIDTH):
            store(outs, at, load(outs, at) * kept)
        put(tops, 0, highest)
    more = spread(float32(0))
    for at in range(0, slots, WIDTH):
        weight = exp(load(scores, at) - base)
        store(scores, at, weight)
        more = more + weight
    put(totals, 0, sum + total(more))


@njit(nogil=True, error_model="numpy")
def see(room, count, keys, key_dim, values, value_dim, done, slots, open, cap):
    """Let so many queries see a tile of keys [slots, key_dim] and values [slots, value_dim].

    Args:
        room: a thread's; queries [count, key_dim] and outs [count, value_dim] lie in lines.
        key_dim, value_dim: multiples of a vector.
        done: the number of the first slot, counted as the room's ``lows`` and ``highs`` are.
        open: whether every query sees every slot.
        cap: bends the scores, if it is not 0.
    """
    for query in range(0, count, TOGETHER):
        several = min(TOGETHER, count - query)
        queries = shifted(room.queries, query * key_dim)
        outs = shifted(room.outs, query * value_dim)
        if several == 1:
            _scores(keys, key_dim, slots, queries, room.scores, 1)
        elif several == 2:
            _scores(keys, key_dim, slots, queries, room.scores, 2)
        elif several == 3:
            _scores(keys, key_dim, slots, queries, room.scores, 3)
        else:
            _scores(keys, key_dim, slots, queries, room.scores, 4)
        for one in range(several):
            _weigh(
                shifted(room.scores, one * TILE),
                slots,
                done,
                get(room.lows, query + one),
                get(room.highs, query + one),
                open,
                cap,
                shifted(room.tops, query + one),
                shifted(room.totals, query + one),
                shifted(outs, one * value_dim),
                value_dim,
            )
        if several == 1:
            _add_values(values, value_dim, slots, room.scores, outs, 1)
        elif several == 2:
            _add_values(values, value_dim, slots, room.scores, outs, 2)
        elif several == 3:
            _add_values(values, value_dim, slots, room.scores, outs, 3)
        else:
            _add_values(values, value_dim, slots, room.scores, outs, 4)
