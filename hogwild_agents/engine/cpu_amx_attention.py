"""CPU AMX attention: how queries see bfloat16 keys and values where the processor has tiles.

Scores and weighted values are products of tiles (``cpu_amx.py``), with a row for each query, up to
16 at a time. What tiles multiply is bfloat16, and nothing is rounded to it: a query, which its
angles and the scale have made float32, is the sum of three numbers of bfloat16, and is multiplied
as these; a weight, a power of two, is the sum of two but for one part in 100,000. What weights are
divided by is the sum of what values were multiplied with, so that the result is a mean of values
all the same.

A row of an item comes to the same bits whatever the other rows are, and however many.

Tiles take numbers below 1.2e-38 for 0. Only keys, values or queries that are as small as that
could tell: a weight's second part is one from 1e-36 on, and less is nothing beside the highest.
Where a key or a value is infinite the result is NaN: parts that are 0 are multiplied with it, too.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import float32, float64, uint8

from hogwild_agents.engine.cpu_amx import (
    EDGE,
    LINE,
    PAIRS,
    TILES,
    build_shapes,
    build_tiles,
    is_tiled,
    lay_tile,
)
from hogwild_agents.engine.cpu_tiles import bend
from hogwild_agents.engine.vectors import (
    BFLOAT16,
    INTEGERS,
    VECTOR,
    WIDTH,
    build_blocks,
    build_spread,
    call,
    get,
    largest,
    load,
    maximum,
    prefetch,
    put,
    recast,
    shifted,
    spread,
    store,
)

SLOTS = PAIRS
"""Slots that are read at a time."""
_PARTS = 3
"""Numbers of bfloat16 that are a query's."""
_BESIDE = 4
"""Tiles of sums at a time."""
_AT_ONCE = 2
"""So many rows of scores become weights at a time."""
_LOG2E = float32(math.log2(math.e))
_SLACK = 11.0
"""How far a score, as a power of two, may be above its row's top: weights stay below 2048."""
_NEVER = float32(-math.inf)
_SUMS, _ROWS, _LAID = (0, 1, 2, 3), (4, 5, 6), 7
"""The tiles, by what they hold: those of rows are queries' parts, or weights'."""
_I64 = ir.IntType(64)


class TileRoom(NamedTuple):
    """What a thread has for itself besides, see :func:`room_at`."""

    shapes: Any
    scores: Any
    keys: Any
    values: Any
    nothing: Any
    queries: Any


def place_for(key_dim: int, value_dim: int, rows: int) -> int:
    """Return the bytes that a thread needs besides for items of at most so many rows of queries."""
    laid = SLOTS * (key_dim + value_dim) + value_dim + _PARTS * rows * key_dim
    return LINE + 4 * 3 * EDGE * SLOTS + 2 * laid


@njit(nogil=True, error_model="numpy")
def room_at(start, key_dim, value_dim):
    """Part what a thread has for itself.

    ``shapes`` are the tiles' 64 bytes. Scores are [3, EDGE, SLOTS] float32, all others bfloat16:
    keys [SLOTS / EDGE, key_dim / PAIRS, EDGE, EDGE, 2], for tiles of EDGE slots the pairs of
    dimensions of each; values [SLOTS / PAIRS, value_dim / EDGE, EDGE, EDGE, 2], for tiles of EDGE
    dimensions the pairs of slots, those EDGE apart; ``nothing`` [value_dim] zeros; and queries
    [_PARTS, rows, key_dim].
    """
    shapes = recast(start, uint8)
    scores = recast(shifted(shapes, LINE), float32)
    keys = recast(shifted(scores, 3 * EDGE * SLOTS), BFLOAT16)
    values = shifted(keys, SLOTS * key_dim)
    nothing = shifted(values, SLOTS * value_dim)
    return TileRoom(shapes, scores, keys, values, nothing, shifted(nothing, value_dim))


@njit(nogil=True, error_model="numpy")
def suits(keys, key_dim, value_dim):
    """Whether keys and values of a type are multiplied by tiles."""
    return is_tiled(keys) and key_dim % PAIRS == 0 and value_dim % PAIRS == 0


@njit(nogil=True, error_model="numpy")
def height_for(rows):
    """Return of how many rows of queries tiles are that take so many in equal parts."""
    parts = -(-rows // EDGE)
    return -(-rows // parts)


# -- queries


@intrinsic
def _shape(context, room, height):
    """Give the tiles their shapes, those of sums and rows so many rows.

    Args:
        room: byte pointer to 64 bytes.
        height: from 1 to EDGE.
    """

    def build(context, builder, signature, args):
        room, height = args
        height = builder.trunc(height, ir.IntType(8))
        heights = dict.fromkeys((*_SUMS, *_ROWS), height)
        build_shapes(builder, room, heights | {_LAID: ir.IntType(8)(EDGE)})
        return context.get_dummy_value()

    return types.void(room, types.int64), build


@intrinsic
def _split(context, numbers, count, to, apart):
    """Write so many float32 numbers as three of bfloat16 each, which add up to them.

    Of a number's 24 digits each part has 8, so that nothing is rounded.

    Args:
        count: a multiple of WIDTH.
        to: bfloat16 pointer to the first parts; others follow by ``apart`` elements.
    """

    def build(context, builder, signature, args):
        numbers, count, to, apart = args
        upper = ir.Constant(INTEGERS, [0xFFFF0000] * WIDTH)
        sixteen = ir.Constant(INTEGERS, [16] * WIDTH)
        short = ir.VectorType(ir.IntType(16), WIDTH)
        with cgutils.for_range_slice(builder, _I64(0), count, _I64(WIDTH)) as (at, _):
            place = builder.bitcast(builder.gep(numbers, [at]), VECTOR.as_pointer())
            rest = builder.load(place, align=4)
            for part in range(_PARTS):
                bits = builder.and_(builder.bitcast(rest, INTEGERS), upper)
                rest = builder.fsub(rest, builder.bitcast(bits, VECTOR))
                there = builder.add(builder.mul(apart, _I64(part)), at)
                there = builder.bitcast(builder.gep(to, [there]), short.as_pointer())
                builder.store(builder.trunc(builder.lshr(bits, sixteen), short), there, align=2)
        return context.get_dummy_value()

    return types.void(numbers, types.int64, to, types.int64), build


@njit(nogil=True, error_model="numpy")
def take_queries(room, tiles, rows, height, layer):
    """Split the queries of a room for tiles of so many rows, whose shapes are set."""
    key_dim = layer.key_dim
    _shape(tiles.shapes, height)
    for at in range(0, layer.value_dim, WIDTH):
        store(tiles.nothing, at, spread(float32(0)))
    whole = -(-rows // height) * height
    _split(room.queries, rows * key_dim, tiles.queries, whole * key_dim)


# -- keys and values


@intrinsic
def _ask(context, start, first, last):
    """Ask for what lies from the line ``first`` to ``last`` after a pointer; it need not exist."""
    element = start.dtype

    def build(context, builder, signature, args):
        start, first, last = args
        with cgutils.for_range_slice(builder, first, last, _I64(1)) as (line, _):
            there = builder.gep(start, [builder.mul(line, _I64(PAIRS))])
            prefetch(builder, there, PAIRS, element)
        return context.get_dummy_value()

    return types.void(start, types.int64, types.int64), build


@njit(nogil=True, error_model="numpy")
def _ask_next(soon, first, last, lines):
    """Ask for what is some steps' of the keys and values that come next."""
    keys, values = soon
    many, more = lines
    _ask(keys, first * many, last * many)
    _ask(values, first * more, last * more)


@njit(nogil=True, error_model="numpy")
def _lay_keys(keys, dim, slots, to, soon, step, lines):
    """Turn keys [slots, dim] over, as :func:`cpu_amx.lay` does.

    What the slots of a tile that lack come to has no meaning.
    """
    for first in range(0, slots, EDGE):
        some = min(EDGE, slots - first)
        for at in range(0, dim, PAIRS):
            place, there = first * dim + at, shifted(to, first * dim + at * EDGE)
            if some == EDGE:  # which the processor need not look at then
                lay_tile(shifted(keys, place), dim, EDGE, there)
            else:
                lay_tile(shifted(keys, place), dim, some, there)
            _ask_next(soon, step, step + 1, lines)
            step += 1


@intrinsic
def _lay_pairs(context, values, dim, slots, nothing, to):
    """Put PAIRS numbers of PAIRS slots side by side by twos: [2, EDGE, EDGE, 2].

    Slots EDGE apart are a pair. The even ones of the numbers come first, then the odd ones.

    Args:
        values: pointer to the first slot's; others follow by ``dim`` elements.
        slots: how many there are; for those that lack ``nothing`` stands.
        to: pointer to two tiles.
    """
    element = values.dtype

    def build(context, builder, signature, args):
        if not TILES or element != BFLOAT16:
            return context.get_dummy_value()
        values, dim, slots, nothing, to = args
        lines = []
        for slot in range(PAIRS):
            line = builder.gep(values, [builder.mul(dim, _I64(slot))])
            line = builder.select(builder.icmp_signed("<", _I64(slot), slots), line, nothing)
            place = builder.bitcast(line, INTEGERS.as_pointer())
            lines.append(builder.load(place, align=2))
        sixteen, upper = (ir.Constant(INTEGERS, [one] * WIDTH) for one in (16, 0xFFFF0000))
        place = builder.bitcast(to, INTEGERS.as_pointer())
        for pair, (left, right) in enumerate(zip(lines[:EDGE], lines[EDGE:], strict=True)):
            lower = builder.and_(left, builder.not_(upper))
            even = builder.or_(lower, builder.shl(right, sixteen))
            odd = builder.or_(builder.lshr(left, sixteen), builder.and_(right, upper))
            for half, numbers in enumerate((even, odd)):
                there = builder.gep(place, [_I64(half * EDGE + pair)])
                builder.store(numbers, there, align=4)
        return context.get_dummy_value()

    return types.void(values, types.int64, types.int64, nothing, to), build


@njit(nogil=True, error_model="numpy")
def _lay_values(values, dim, slots, nothing, to, soon, step, lines):
    """Lay values [slots, dim] out for tiles."""
    for first in range(0, slots, PAIRS):
        for at in range(0, dim, PAIRS):
            place, there = first * dim + at, shifted(to, first * dim + at * PAIRS)
            if slots - first >= PAIRS:
                _lay_pairs(shifted(values, place), dim, PAIRS, nothing, there)
            else:
                _lay_pairs(shifted(values, place), dim, slots - first, shifted(nothing, at), there)
            _ask_next(soon, step, step + 1, lines)
            step += 1


@intrinsic
def _order(context, outs, count):
    """Put numbers in their order again, in blocks of which the even ones come first."""

    def build(context, builder, signature, args):
        outs, count = args
        with cgutils.for_range_slice(builder, _I64(0), count, _I64(2 * WIDTH)) as (at, _):
            place = builder.bitcast(builder.gep(outs, [at]), VECTOR.as_pointer())
            places = [builder.gep(place, [_I64(half)]) for half in range(2)]
            halves = [builder.load(there, align=4) for there in places]
            for half, there in enumerate(places):
                first = half * WIDTH // 2
                order = [first + at // 2 + at % 2 * WIDTH for at in range(WIDTH)]
                numbers = builder.shuffle_vector(*halves, ir.Constant(INTEGERS, order))
                builder.store(numbers, there, align=4)
        return context.get_dummy_value()

    return types.void(outs, types.int64), build


@njit(nogil=True, error_model="numpy")
def give_outs(room, rows, value_dim):
    """Put the dimensions of what was added up in their order, and make tops natural logarithms."""
    _order(room.outs, rows * value_dim)
    for row in range(rows):
        put(room.tops, row, float32(float64(get(room.tops, row)) * math.log(2)))


# -- products


@intrinsic
def _scores(context, queries, apart, dim, keys, scores):
    """Multiply a tile's rows of queries with keys: scores [rows, SLOTS].

    Args:
        queries: pointer to the first row's first part; others follow by ``dim`` elements, and
            further parts by ``apart``.
        keys: as :func:`_lay_keys` wrote them.
        scores: float32 pointer.
    """

    def build(context, builder, signature, args):
        queries, apart, dim, keys, scores = args
        stride = builder.mul(dim, _I64(2))
        sums = _SUMS[: SLOTS // EDGE]
        for tile in sums:
            build_tiles(builder, "tilezero", tile)
        with cgutils.for_range_slice(builder, _I64(0), dim, _I64(PAIRS)) as (at, _):
            for part, tile in enumerate(_ROWS):
                there = builder.gep(queries, [builder.add(builder.mul(apart, _I64(part)), at)])
                build_tiles(builder, "tileloadd64", tile, there, stride)
            for unit, tile in enumerate(sums):
                there = builder.mul(builder.add(at, builder.mul(dim, _I64(unit))), _I64(EDGE))
                there = builder.gep(keys, [there])
                build_tiles(builder, "tileloadd64", _LAID, there, _I64(LINE))
                for part in _ROWS:
                    build_tiles(builder, "tdpbf16ps", tile, part, _LAID)
        for unit, tile in enumerate(sums):
            to = builder.gep(scores, [_I64(unit * EDGE)])
            build_tiles(builder, "tilestored64", tile, to, _I64(4 * SLOTS))
        return context.get_dummy_value()

    number = types.int64
    return types.void(queries, number, number, keys, scores), build


@intrinsic
def _add_values(context, weights, values, dim, outs):
    """Add the products of a tile's rows of weights with values: outs [rows, dim].

    Args:
        weights: float32 pointer to them as :func:`_weigh` wrote them.
        values: as :func:`_lay_values` wrote them.
        dim: a multiple of PAIRS.
        outs: float32 pointer.
    """

    def build(context, builder, signature, args):
        weights, values, dim, outs = args
        stride, halves = builder.mul(dim, _I64(4)), _ROWS[:2]
        for half, tile in enumerate(halves):
            place = builder.gep(weights, [_I64(half * EDGE)])
            build_tiles(builder, "tileloadd64", tile, place, _I64(4 * SLOTS))

        def block(first, units):
            for unit, tile in enumerate(_SUMS[:units]):
                at = builder.add(first, _I64(unit * EDGE))
                place = builder.gep(outs, [at])
                build_tiles(builder, "tileloadd64", tile, place, stride)
                there = builder.gep(values, [builder.mul(at, _I64(SLOTS))])
                build_tiles(builder, "tileloadd64", _LAID, there, _I64(LINE))
                for half in halves:
                    build_tiles(builder, "tdpbf16ps", tile, half, _LAID)
                build_tiles(builder, "tilestored64", tile, place, stride)

        build_blocks(builder, dim, _BESIDE, EDGE, block)
        return context.get_dummy_value()

    return types.void(weights, values, types.int64, outs), build


# -- weights


@intrinsic
def _rises(context, scores, rows, tops):
    """Whether scores [rows, SLOTS] have one that is much above the top of its row."""

    def build(context, builder, signature, args):
        scores, rows, tops = args
        mask = ir.VectorType(ir.IntType(1), WIDTH)
        found = cgutils.alloca_once_value(builder, mask(None))
        with cgutils.for_range(builder, rows) as loop:
            line = builder.gep(scores, [builder.mul(loop.index, _I64(SLOTS))])
            place = builder.bitcast(line, VECTOR.as_pointer())
            left, right = (
                builder.load(builder.gep(place, [_I64(half)]), align=4) for half in range(2)
            )
            higher = builder.select(builder.fcmp_ordered(">", left, right), left, right)
            top = builder.load(builder.gep(tops, [loop.index]))
            bound = builder.fmul(builder.fadd(top, top.type(_SLACK)), top.type(math.log(2)))
            above = builder.fcmp_ordered(">", higher, build_spread(builder, bound))
            builder.store(builder.or_(builder.load(found), above), found)
        bits = builder.bitcast(builder.load(found), ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(scores, types.int64, tops), build


@njit(nogil=True, error_model="numpy")
def _raise_top(scores, tops, totals, outs, width):
    """Let a query's top follow its highest score of SLOTS, and rescale what was added up.

    Args:
        tops, totals, outs: the query's own: a number, a vector whose sum counts, and ``width``.
    """
    peaks = load(scores, 0)
    for at in range(WIDTH, SLOTS, WIDTH):
        peaks = maximum(load(scores, at), peaks)
    highest = largest(peaks)
    top = get(tops, 0)
    if highest == _NEVER or not highest * _LOG2E > top + float32(_SLACK):
        return
    new = float32(np.ceil(highest * _LOG2E))  # so that factors are powers of two
    put(tops, 0, new)
    if top != _NEVER:  # it has seen something
        kept = spread(float32(2.0 ** float64(top - new)))
        store(totals, 0, load(totals, 0) * kept)
        for at in range(0, width, WIDTH):
            store(outs, at, load(outs, at) * kept)


@intrinsic
def _weigh(context, scores, rows, tops, totals):
    """Turn scores [rows, SLOTS] into weights for tiles, in their place, and add up what they are.

    Of a row the weights' first parts come first, [EDGE, 2], then the second ones.

    Args:
        scores: float32 pointer.
        tops: float32 pointer to what each row's powers of two are taken from; -inf if it has seen
            nothing: its scores are all -inf, and their powers are 0.
        totals: float32 pointer to a vector for each row.
    """

    def build(context, builder, signature, args):
        scores, rows, tops, totals = args
        if not TILES:
            return context.get_dummy_value()

        def block(first, units):
            place = builder.gep(scores, [builder.mul(first, _I64(SLOTS))])
            held = builder.bitcast(totals, VECTOR.as_pointer())
            held = builder.gep(held, [first])
            bases = []
            for unit in range(units):
                top = builder.load(builder.gep(tops, [builder.add(first, _I64(unit))]))
                least = ir.FloatType()(-3e38)
                top = builder.select(builder.fcmp_ordered(">", top, least), top, least)
                bases += [build_spread(builder, builder.fsub(top.type(-0.0), top))] * 2
            used = _build_weights(builder, place, bases)
            for unit in range(units):
                to = builder.gep(held, [_I64(unit)])
                sum = builder.fadd(used[2 * unit], used[2 * unit + 1])
                builder.store(builder.fadd(builder.load(to, align=4), sum), to, align=4)

        build_blocks(builder, rows, _AT_ONCE, 1, block)
        return context.get_dummy_value()

    return types.void(scores, types.int64, tops, totals), build


def _build_weights(builder, scores, bases):
    """Build :func:`_weigh` for as many vectors of scores as there are bases; return the weights."""
    place = builder.bitcast(scores, VECTOR.as_pointer())
    places = [builder.gep(place, [_I64(at)]) for at in range(len(bases))]
    factor = ir.Constant(VECTOR, [_LOG2E] * WIDTH)
    numbers = [
        call(builder, "fma", builder.load(there, align=4), factor, base)
        for there, base in zip(places, bases, strict=True)
    ]
    weights = _build_powers(builder, numbers)
    first = [_build_rounded(builder, one) for one in weights]
    second = [
        _build_rounded(builder, builder.fsub(one, part))
        for one, part in zip(weights, first, strict=True)
    ]
    sixteen = ir.Constant(INTEGERS, [16] * WIDTH)
    for half, part in enumerate((first, second)):
        bits = [builder.bitcast(one, INTEGERS) for one in part]
        for at in range(0, len(bits), 2):
            both = builder.or_(builder.lshr(bits[at], sixteen), bits[at + 1])
            there = builder.bitcast(places[at + half], INTEGERS.as_pointer())
            builder.store(both, there, align=4)
    return [builder.fadd(*both) for both in zip(first, second, strict=True)]


def _build_powers(builder, numbers):
    """Return two to the power of each vector of numbers, 2e-7 of it off at most; 0 below 2^-126."""

    def all(value):
        return ir.Constant(VECTOR, [value] * WIDTH)

    everywhere = ir.IntType(WIDTH)((1 << WIDTH) - 1)
    rests = [
        _build_masked(builder, "reduce", one, ir.IntType(32)(0), VECTOR(None), everywhere)
        for one in numbers
    ]
    # Of degree 5, with the least error between -1/2 and 1/2: 8e-8.
    first, *others = (
        0.001327647202854468, 0.009675541479827965, 0.05550713274649621, 0.2402211972116696,
        0.693146967063267, 1.0000000716552198,
    )  # fmt: skip
    series = [all(first)] * len(numbers)
    for factor in others:
        series = [
            call(builder, "fma", one, rest, all(factor))
            for one, rest in zip(series, rests, strict=True)
        ]
    powers = []
    for number, rest, one in zip(numbers, rests, series, strict=True):
        above = builder.fcmp_unordered(">=", number, all(-126.0))
        mask = builder.bitcast(above, ir.IntType(WIDTH))
        whole = builder.fsub(number, rest)
        powers.append(_build_masked(builder, "scalef", one, whole, VECTOR(None), mask))
    return powers


def _build_masked(builder, name, *args):
    """Build an instruction of AVX-512 for single numbers, which is rounded as all are."""
    current = ir.IntType(32)(4)
    kind = ir.FunctionType(VECTOR, [arg.type for arg in (*args, current)])
    name = f"llvm.x86.avx512.mask.{name}.ps.512"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [*args, current])


def _build_rounded(builder, numbers):
    """Return the nearest numbers that bfloat16 has; of two as near the larger."""
    half, upper = (ir.Constant(INTEGERS, [one] * WIDTH) for one in (0x8000, 0xFFFF0000))
    bits = builder.add(builder.bitcast(numbers, INTEGERS), half)
    return builder.bitcast(builder.and_(bits, upper), VECTOR)


@njit(nogil=True, error_model="numpy")
def _see_part(room, scores, first, last, done, slots, open, cap, value_dim):
    """Weigh the scores of so many rows of a tile."""
    if not open or slots != SLOTS or cap != float32(0):
        for row in range(first, last):
            line = shifted(scores, (row - first) * SLOTS)
            low, high = get(room.lows, row), get(room.highs, row)
            bend(line, slots, SLOTS, done, low, high, open, cap)
    tops = shifted(room.tops, first)
    if _rises(scores, last - first, tops):
        for row in range(first, last):
            line, outs = shifted(scores, (row - first) * SLOTS), shifted(room.outs, row * value_dim)
            top, totals = shifted(room.tops, row), shifted(room.totals, row * WIDTH)
            _raise_top(line, top, totals, outs, value_dim)
    _weigh(scores, last - first, tops, shifted(room.totals, first * WIDTH))


@njit(nogil=True, error_model="numpy")
def see(room, tiles, rows, height, keys, key_dim, values, value_dim, soon, done, slots, open, cap):
    """Let so many queries see up to SLOTS slots, after :func:`take_queries`.

    Args:
        tiles: of :func:`room_at`.
        height: how many rows tiles have.
        others: as of ``cpu_tiles.see``.
    """
    first_step = SLOTS // EDGE * key_dim // PAIRS
    step = first_step + SLOTS // PAIRS * value_dim // PAIRS
    steps = step + rows
    lines = -(-SLOTS * key_dim // PAIRS // steps), -(-SLOTS * value_dim // PAIRS // steps)
    _lay_keys(keys, key_dim, slots, tiles.keys, soon, 0, lines)
    _lay_values(values, value_dim, slots, tiles.nothing, tiles.values, soon, first_step, lines)
    whole, parts = -(-rows // height) * height, -(-rows // height)
    # Of three parts at a time, so that the processor multiplies tiles while it computes weights.
    for part in range(parts + 2):
        if part < parts:
            scores = shifted(tiles.scores, part % 3 * EDGE * SLOTS)
            queries = shifted(tiles.queries, part * height * key_dim)
            _scores(queries, whole * key_dim, key_dim, tiles.keys, scores)
        if part >= 2:
            scores = shifted(tiles.scores, (part + 1) % 3 * EDGE * SLOTS)
            outs = shifted(room.outs, (part - 2) * height * value_dim)
            _add_values(scores, tiles.values, value_dim, outs)
        if 1 <= part <= parts:
            scores = shifted(tiles.scores, (part + 2) % 3 * EDGE * SLOTS)
            first, last = (part - 1) * height, min(part * height, rows)
            _ask_next(soon, step + first, step + last, lines)
            _see_part(room, scores, first, last, done, slots, open, cap, value_dim)
