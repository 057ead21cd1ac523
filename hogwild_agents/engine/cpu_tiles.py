"""CPU tiles: how queries see a tile of keys and values: scores, weights, and what they add up to.

A tile is made ready once for all queries that see it: keys are turned over, so that those of a
register full of slots stand side by side, and both are widened to float32. Scores and weighted
values are products of matrices then, with a row for each query, be they the heads of one worker or
of many. As many rows are multiplied at a time as registers hold the sums of.

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
    INTEGERS,
    VECTOR,
    WIDTH,
    any_above,
    between,
    build_blocks,
    build_halves,
    build_load,
    build_spread,
    build_turned,
    call,
    capped,
    copy,
    counted,
    exp,
    get,
    is_float32,
    largest,
    load,
    maximum,
    padded,
    prefetch,
    put,
    recast,
    shifted,
    spread,
    store,
)

TILE = 32
"""Slots that are read at a time, a multiple of a vector."""
ROWS = 8 if WIDTH == 16 else 6
"""Queries that are multiplied at a time, at most."""
_BESIDE = 2
"""Vectors of sums that registers hold for each of them."""
SLACK = 8.0
"""How far a score may be above what exponentials are taken from: they stay below 3000."""
_NEVER = float32(-math.inf)


@njit(nogil=True, error_model="numpy")
def _multiply(left, line, rows, right, step, columns, sums, width, soon, apart, steps, fresh):
    """Multiply matrices: sums[row] (+)= the sum over steps of left[row, step] * right[step].

    Args:
        left: float32 pointer; rows follow by ``line`` elements.
        rows: how many, up to ROWS.
        right: float32 pointer to the columns of the first step; others follow by ``step``.
        columns: how many, a multiple of a vector.
        sums: float32 pointer to those of the first row; others follow by ``width``.
        soon: pointer to what will be read soon: with each step what lies as ``right``'s columns
            do is asked for, ``apart`` elements from the one before.
        steps: how many.
        fresh: whether what the sums were does not count, 0 or 1.
    """
    # A function of its own, so that LLVM compiles it once.
    _products(left, line, rows, right, step, columns, sums, width, soon, apart, steps, fresh)


@intrinsic
def _products(
    context, left, line, rows, right, step, columns, sums, width, soon, apart, steps, fresh
):
    """See :func:`_multiply`."""

    def build(context, builder, signature, args):
        left, line, rows, *given = args
        done = builder.append_basic_block("done")
        choice = builder.switch(rows, done)
        for many in range(1, ROWS + 1):
            case = builder.append_basic_block(f"rows.{many}")
            choice.add_case(many, case)
            builder.position_at_end(case)
            lines = [
                builder.gep(left, [builder.mul(line, ir.IntType(64)(row))]) for row in range(many)
            ]
            _build_products(context, builder, soon.dtype, lines, *given)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    matrices = left, int64, int64, right, int64, int64, sums, int64
    return void(*matrices, soon, int64, int64, int64), build


def _build_products(
    context, builder, element, lines, right, step, columns, sums, width, soon, apart, steps, fresh
):
    """Build :func:`_multiply` for the rows whose first elements are given."""
    number = ir.IntType(64)

    def block(first, vectors):
        """Build the sums of so many vectors of columns."""
        shape = [(row, vector) for row in range(len(lines)) for vector in range(vectors)]
        held = {at: cgutils.alloca_once(builder, VECTOR) for at in shape}
        tos = {}
        for row, vector in shape:
            begin = builder.mul(width, number(row))
            tos[row, vector] = builder.add(builder.add(first, number(vector * WIDTH)), begin)
        anew = builder.icmp_unsigned("!=", fresh, number(0))
        for at, place in held.items():
            was = build_load(context, builder, sums, tos[at], float32)
            builder.store(builder.select(anew, VECTOR(None), was), place)
        with cgutils.for_range(builder, steps) as loop:
            ahead = builder.add(first, builder.mul(loop.index, apart))
            prefetch(builder, builder.gep(soon, [ahead]), vectors * WIDTH, element)
            there = builder.add(first, builder.mul(loop.index, step))
            beside = [
                build_load(
                    context, builder, right, builder.add(there, number(vector * WIDTH)), float32
                )
                for vector in range(vectors)
            ]
            for row, line in enumerate(lines):
                factor = build_spread(builder, builder.load(builder.gep(line, [loop.index])))
                for vector in range(vectors):
                    place = held[row, vector]
                    sum = call(builder, "fma", factor, beside[vector], builder.load(place))
                    builder.store(sum, place)
        for at, place in held.items():
            to = builder.bitcast(builder.gep(sums, [tos[at]]), VECTOR.as_pointer())
            builder.store(builder.load(place), to, align=4)

    build_blocks(builder, columns, _BESIDE, WIDTH, block)


@intrinsic
def _turn_over(context, keys, dim, slots, to):
    """Write keys [slots, dim] to float32 [dim, TILE], of at least a register's elements.

    Whole vectors of slots are written, and none is read beyond the last.
    """
    element = keys.dtype
    each = 32 // element.bitwidth  # elements that a number of 32 bits holds

    def build(context, builder, signature, args):
        keys, dim, slots, to = args
        number = ir.IntType(64)
        last = builder.sub(slots, number(1))
        with cgutils.for_range_slice(builder, number(0), slots, number(WIDTH)) as (first, _):
            lines = []
            for slot in range(WIDTH):
                index = builder.add(first, number(slot))
                beyond = builder.icmp_signed(">", index, last)
                index = builder.select(beyond, last, index)
                lines.append(builder.gep(keys, [builder.mul(index, dim)]))
            step = number(WIDTH * each)
            end = builder.sub(dim, step)
            with cgutils.for_range_slice(builder, number(0), dim, step) as (at, _):
                # The last ones may have been written already.
                at = builder.select(builder.icmp_signed(">", at, end), end, at)
                read = []
                for line in lines:
                    place = builder.gep(line, [at])
                    place = builder.bitcast(place, INTEGERS.as_pointer())
                    read.append(builder.load(place, align=element.bitwidth // 8))
                for index, pair in enumerate(build_turned(builder, read)):
                    for half, wide in enumerate(build_halves(builder, pair, element)):
                        row = builder.add(at, number(index * each + half))
                        there = builder.add(first, builder.mul(row, number(TILE)))
                        place = builder.gep(to, [there])
                        builder.store(wide, builder.bitcast(place, VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return void(keys, int64, int64, to), build


@njit(nogil=True, error_model="numpy")
def _lay_keys(keys, dim, slots, to):
    """Turn a tile of keys over: [slots, dim] of any type to float32 [dim, TILE]."""
    if dim >= (WIDTH if is_float32(keys) else 2 * WIDTH):
        _turn_over(keys, dim, slots, to)
        return
    for at in range(dim):
        for slot in range(slots):
            put(to, at * TILE + slot, get(keys, slot * dim + at))


@njit(nogil=True, error_model="numpy")
def _lay_values(values, dim, slots, to):
    """Return a float32 pointer to a tile of values [slots, dim], each padded to whole vectors.

    These are the values themselves, or a copy at ``to``.
    """
    width = padded(dim)
    if width == dim:
        if is_float32(values):
            return recast(values, float32)
        copy(values, to, dim * slots)
        return to
    for slot in range(slots):
        store(to, slot * width + width - WIDTH, spread(float32(0)))
        copy(shifted(values, slot * dim), shifted(to, slot * width), dim)
    return to


@njit(nogil=True, error_model="numpy")
def bend(scores, slots, columns, start, low, high, open, cap):
    """Bend a query's scores, and make those that it does not see -inf.

    Args:
        scores: float32 pointer to those of so many ``columns``, a multiple of a vector, of which
            the first ``slots`` are some.
        start: the number of the first slot, counted as ``low`` and ``high`` are.
        open: whether the query sees every slot.
        cap: bends the scores, if it is not 0.
    """
    masked = not open or slots != columns
    if not masked and cap == float32(0):
        return
    last = spread(min(high, float32(start + slots - 1)))
    for at in range(0, columns, WIDTH):
        score = load(scores, at)
        if cap != float32(0):
            score = capped(score, cap)
        if masked:
            here = counted(float32(start + at))
            score = between(spread(low), here, last, score, spread(_NEVER))
        store(scores, at, score)


@njit(nogil=True, error_model="numpy")
def base_for(scores, columns, tops, totals, outs, width):
    """Return from what a query's exponentials are taken now, and rescale what was added up.

    That is ``tops``, which follows the highest score only when that is much above it: to compare
    is cheap, and to rescale is not.

    Args:
        tops, totals, outs: the query's own: a number, a vector whose sum counts, and ``width``.
    """
    peaks = spread(_NEVER)
    for at in range(0, columns, WIDTH):
        peaks = maximum(load(scores, at), peaks)
    top = get(tops, 0)
    if not any_above(peaks, spread(top + float32(SLACK))):
        # It may see nothing yet: its scores are all -inf, and their exponentials are to be 0.
        return max(top, float32(-3e38))
    highest = largest(peaks)
    put(tops, 0, highest)
    if top != _NEVER:  # it has seen something
        kept = exp(spread(top) - spread(highest))
        store(totals, 0, load(totals, 0) * kept)
        for at in range(0, width, WIDTH):
            store(outs, at, load(outs, at) * kept)
    return highest


@njit(nogil=True, error_model="numpy")
def _weigh(scores, slots, start, low, high, open, cap, tops, totals, outs, width):
    """Turn a query's scores [slots] into weights; see :func:`bend` and :func:`base_for`."""
    bend(scores, slots, padded(slots), start, low, high, open, cap)
    base = spread(base_for(scores, padded(slots), tops, totals, outs, width))
    sum = load(totals, 0)
    for at in range(0, slots, WIDTH):
        weight = exp(load(scores, at) - base)
        store(scores, at, weight)
        sum = sum + weight
    store(totals, 0, sum)


@njit(nogil=True, error_model="numpy")
def see(room, rows, keys, key_dim, values, value_dim, soon, done, slots, open, cap):
    """Let so many queries see a tile of keys [slots, key_dim] and values [slots, value_dim].

    Args:
        room: a thread's.
        rows: how many queries; they and what they add up to lie in the room in whole vectors.
        soon: pointers to the keys and the values of the tile that comes next, which need not exist:
            it is asked for meanwhile.
        done: the number of the first slot, counted as the room's ``lows`` and ``highs`` are.
        open: whether every query sees every slot.
        cap: bends the scores, if it is not 0.
    """
    line, width, columns = padded(key_dim), padded(value_dim), padded(slots)
    scores, parts = room.scores, -(-rows // ROWS)
    _lay_keys(keys, key_dim, slots, room.keys)
    wide = _lay_values(values, value_dim, slots, room.values)
    next_keys, next_values = soon
    for part in range(parts):
        first, last = rows * part // parts, rows * (part + 1) // parts
        count, outs = last - first, shifted(room.outs, first * width)
        queries = shifted(room.queries, first * line)
        tile = room.keys, TILE, columns, scores, TILE, next_keys, TILE
        _multiply(queries, line, count, *tile, key_dim, 1)
        for row in range(first, last):
            _weigh(
                shifted(scores, (row - first) * TILE),
                slots,
                done,
                get(room.lows, row),
                get(room.highs, row),
                open,
                cap,
                shifted(room.tops, row),
                shifted(room.totals, row * WIDTH),
                shifted(room.outs, row * width),
                width,
            )
        tile = wide, width, width, outs, width, next_values, value_dim
        _multiply(scores, TILE, count, *tile, slots, 0)
