"""CPU products: the compiled product of a linear layer's weights with the rows of a tick.

Weights of 16 bits are widened in registers, once for several rows, and everything is added up in
float32. Weights of 8 bits are multiplied as integers, with rows that are rounded to 16 bits. The
weights are read where they lie, at the speed of memory as long as there are few rows.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import float32, int8, int64, uint8

from hogwild_agents.engine import cpu_amx
from hogwild_agents.engine.cpu_amx import EDGE, TILES, is_rounded, is_tiled
from hogwild_agents.engine.vectors import (
    BFLOAT16,
    INTEGERS,
    VECTOR,
    WIDTH,
    build_load,
    build_pair,
    build_totals,
    call,
    copy_pairs,
    get,
    integers,
    is_int8,
    largest,
    load,
    maximum,
    pointer,
    prefetch,
    put,
    put_integers,
    recast,
    shifted,
    spread,
    store,
    take,
    total,
)

_OUTS = (0, *[4] * 6, *[2] * 6) if WIDTH == 16 else (0, 4, 4, 3, 2, 2)
"""Of how many outputs at a time, for so many rows: the sums fill the processor's registers."""
_ROWS = len(_OUTS) - 1
"""At most so many rows at a time."""
_BATCH = 36 if WIDTH == 16 else 20
"""Rows that a thread lays out for itself before it multiplies them."""
_TILED = 96
"""The same where tiles multiply them (AMX)."""
_CHUNK = 1024
"""So many of the inputs at a time: those of a few rows fit into the processor's first cache. The
products of so many 8-bit weights with 16-bit inputs do not overflow the lanes of 32 bits."""
_BLOCKS = 64, 48, 32
"""So many outputs one thread takes at a time."""
_SUMS = _BLOCKS[0]
"""Room for so many sums of a row."""
_STEPS = 32767
"""What is multiplied with 8-bit weights is rounded to so many steps of a chunk's largest."""


def place_for(rows: int, count: int) -> int:
    """Return the bytes that a thread needs for rows of so many inputs."""
    batch, chunks = min(rows, _BATCH), -(-count // _CHUNK)
    place = 4 * batch * (chunks * (_CHUNK + 1) + _SUMS)
    if TILES:
        whole = -(-min(rows, _TILED) // EDGE) * EDGE
        rounded = 4 * whole * (chunks + _SUMS) + 2 * EDGE * _CHUNK
        place = max(place, whole * 2 * count + rounded + cpu_amx.ROOM)
    return place


@cache
def block_for(outs: int, threads: int) -> int:
    """Return how many outputs a thread takes at a time, so that all of them end together."""

    def most(block: int) -> int:
        """Return the outputs of the thread that takes most of them."""
        blocks = -(-outs // block)
        return -(-blocks // threads) * block

    return min(_BLOCKS, key=most)


def _build_floats(context, builder, lines, states, at, held, element):
    """Build: add the products of a pair of vectors of weights and states from ``at`` on."""
    wide = {out: build_pair(context, builder, line, at, element) for out, line in lines.items()}
    for half in range(2):
        seen = {}
        for (out, row), place in held.items():
            if row not in seen:
                there = builder.add(at, ir.IntType(64)(row * _CHUNK + half * WIDTH))
                seen[row] = build_load(context, builder, states, there, float32)
            sum = call(builder, "fma", wide[out][half], seen[row], builder.load(place))
            builder.store(sum, place)


def _build_integers(builder, lines, states, at, held):
    """Build the same for weights of 8 bits and states of 16; neighbours are added up."""
    short, long = (ir.VectorType(ir.IntType(bits), 2 * WIDTH) for bits in (16, 32))
    first, second = (ir.Constant(INTEGERS, list(range(side, 2 * WIDTH, 2))) for side in (0, 1))

    def read(base, index, bits):
        kind = ir.VectorType(ir.IntType(bits), 2 * WIDTH).as_pointer()
        return builder.load(builder.bitcast(builder.gep(base, [index]), kind), align=1)

    wide = {out: builder.sext(read(line, at, 8), short) for out, line in lines.items()}
    base = builder.bitcast(states, ir.IntType(16).as_pointer())
    seen = {}
    for (out, row), place in held.items():
        if row not in seen:
            seen[row] = read(base, builder.add(at, ir.IntType(64)(row * _CHUNK)), 16)
        # LLVM makes one instruction of this where the processor has it (pmaddwd).
        both = builder.mul(builder.sext(wide[out], long), builder.sext(seen[row], long), ("nsw",))
        pair = [builder.shuffle_vector(both, both, side) for side in (first, second)]
        builder.store(builder.add(builder.load(place), builder.add(*pair)), place)


@intrinsic
def _tiles(context, weights, step, outs, states, count, sums, factors, rows):
    """Add the products of outputs' weights with some rows to their sums.

    Args:
        weights: pointer to the first output's; others follow by ``step`` elements.
        outs: how many outputs, a multiple of what _OUTS says for the rows.
        states: pointer to the first row as :func:`_lay` wrote it; others follow by _CHUNK.
        count: of weights and states to multiply, a multiple of twice WIDTH.
        sums: float32 pointer to the first row's sums; others follow by _SUMS.
        factors: float32 pointer to the rows' factors, if the weights are int8.
        rows: how many, up to _ROWS.
    """

    def build(context, builder, signature, args):
        *args, rows = args
        done = builder.append_basic_block("done")
        choice = builder.switch(rows, done)
        for many, several in enumerate(_OUTS[1:], 1):
            case = builder.append_basic_block(f"rows.{many}")
            choice.add_case(many, case)
            builder.position_at_end(case)
            _build_tiles(context, builder, weights.dtype, args, several, many)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(weights, int64, int64, states, int64, sums, factors, int64), build


@intrinsic
def _tile(context, weights, states, count, sums, factors):
    """Add the products of one output's weights with one row; see :func:`_tiles`."""

    def build(context, builder, signature, args):
        first, states, count, sums, factors = args
        one = ir.IntType(64)(1)
        args = first, count, one, states, count, sums, factors
        _build_tiles(context, builder, weights.dtype, args, 1, 1)
        return context.get_dummy_value()

    return types.void(weights, states, int64, sums, factors), build


def _build_tiles(context, builder, element, args, several, many):
    """Build :func:`_tiles` for ``many`` rows: sums of ``several`` outputs stay in registers."""
    weights, step, outs, states, count, sums, factors = args
    number = ir.IntType(64)
    whole_numbers = element == int8
    kind = INTEGERS if whole_numbers else VECTOR
    shape = [(out, row) for row in range(many) for out in range(several)]
    held = {at: cgutils.alloca_once(builder, kind) for at in shape}
    stride = (2 if whole_numbers else 4) * WIDTH  # with more, LLVM spills sums of integers
    whole = builder.and_(count, number(-stride))
    # Outputs that are multiplied at once lie far apart, so that each is a stream of its own for
    # the processor, which reads ahead.
    apart = builder.udiv(outs, number(several))
    with cgutils.for_range(builder, apart) as loop:
        for place in held.values():
            builder.store(kind(None), place)
        here = [builder.add(loop.index, builder.mul(apart, number(out))) for out in range(several)]
        lines = {out: builder.gep(weights, [builder.mul(at, step)]) for out, at in enumerate(here)}

        def add(at):
            if whole_numbers:
                _build_integers(builder, lines, states, at, held)
            else:
                _build_floats(context, builder, lines, states, at, held, element)

        with cgutils.for_range_slice(builder, number(0), whole, number(stride)) as (at, _):
            for line in lines.values():
                below = builder.add(at, step)  # the next output's
                prefetch(builder, builder.gep(line, [below]), stride, element)
            for start in range(0, stride, 2 * WIDTH):
                add(builder.add(at, number(start)))
        with cgutils.for_range_slice(builder, whole, count, number(2 * WIDTH)) as (at, _):
            add(at)
        to = {(out, row): builder.add(here[out], number(row * _SUMS)) for out, row in shape}
        _build_sums(builder, held, {at: builder.gep(sums, [to[at]]) for at in shape}, factors)


def _build_sums(builder, held, places, factors):
    """Add what is held for each output and row, (out, row), to their sums."""
    shape = list(held)
    for start in range(0, len(shape), 8):
        some = shape[start : start + 8]
        vectors = [builder.load(held[at]) for at in some]
        whole_numbers = vectors[0].type == INTEGERS
        totals = build_totals(builder, vectors)
        for index, at in enumerate(some):
            sum = builder.extract_element(totals, ir.IntType(32)(index))
            if whole_numbers:
                factor = builder.load(builder.gep(factors, [ir.IntType(64)(at[1])]))
                sum = builder.fmul(factor, sum)
            builder.store(builder.fadd(builder.load(places[at]), sum), places[at])


@njit(nogil=True, error_model="numpy")
def _add_products(weights, step, outs, states, count, sums, factors, rows):
    """Add the products of a block's outputs with up to _ROWS rows; see :func:`_tiles`."""
    whole = outs - outs % _OUTS[rows]
    _tiles(weights, step, whole, states, count, sums, factors, rows)
    for out in range(whole, outs):
        line = shifted(weights, out * step)
        for row in range(rows):
            to, factor = shifted(sums, row * _SUMS + out), shifted(factors, row)
            _tile(line, _row(states, row, weights), count, to, factor)


@njit(nogil=True, error_model="numpy")
def _row(states, row, weights):
    """Return where a row lies, from _CHUNK to _CHUNK of what is multiplied with the weights."""
    return shifted(states, row * (_CHUNK // 2 if is_int8(weights) else _CHUNK))


@njit(nogil=True, error_model="numpy")
def _lay(states, count, rows, weights, laid, factors, rounded):
    """Lay rows [rows, count] out for the weights: [chunks, rows, _CHUNK], factors [chunks, rows].

    Float32 numbers in the order of pairs, or integers of 16 bits with one factor for each chunk.
    For tiles see :func:`cpu_amx.lay`, and :func:`_lay_rounded` where weights are ``rounded``.
    """
    if is_tiled(weights):
        cpu_amx.lay(recast(states, BFLOAT16), count, rows, recast(laid, BFLOAT16))
        return
    if rounded:
        _lay_rounded(states, count, rows, laid, factors)
        return
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        for row in range(rows):
            source = shifted(states, row * count + start)
            number = start // _CHUNK * rows + row
            to = _row(laid, number, weights)
            if is_int8(weights):
                put(factors, number, _round(source, size, to))
            else:
                copy_pairs(source, to, size)


@njit(nogil=True, error_model="numpy")
def _lay_rounded(states, count, rows, laid, factors):
    """Lay rows out for tiles of int8: see :func:`cpu_amx.lay_halves`, and round them before."""
    whole = -(-rows // EDGE) * EDGE
    numbers = shifted(factors, whole * (-(-count // _CHUNK) + _SUMS))
    for first in range(0, rows, EDGE):
        some, group = min(EDGE, rows - first), shifted(recast(laid, uint8), 2 * first * count)
        for start in range(0, count, _CHUNK):
            size, place = min(_CHUNK, count - start), start // _CHUNK * whole + first
            for row in range(some):
                source = shifted(states, (first + row) * count + start)
                to = shifted(numbers, row * (_CHUNK // 2))
                put(factors, place + row, _round(source, size, to))
            to = shifted(group, 2 * EDGE * start)
            cpu_amx.lay_halves(numbers, _CHUNK, size, some, to)


@njit(nogil=True, error_model="numpy")
def _round(source, count, to):
    """Round numbers to integers of 16 bits times a factor, and return that; NaN if one is not."""
    zero = spread(float32(0))
    top, nothing = zero, zero
    for at in range(0, count, WIDTH):
        numbers = load(source, at)
        top = maximum(top, maximum(numbers, zero - numbers))
        nothing = nothing + (numbers - numbers)
    most = largest(top)
    part = spread(float32(_STEPS) / most if most > float32(1e-30) else float32(0))
    least = spread(float32(-_STEPS))
    for at in range(0, count, WIDTH):
        put_integers(to, at, maximum(load(source, at) * part, least))
    return most / float32(_STEPS) + total(nothing)


@njit(nogil=True, error_model="numpy")
def _give(sums, outs, scales, scaled, bias, biased, results):
    """Scale one row's sums, add the bias, and write them."""
    whole = outs - outs % WIDTH
    for at in range(0, whole, WIDTH):
        numbers = load(sums, at)
        if scaled:
            numbers = numbers * load(scales, at)
        if biased:
            numbers = numbers + load(bias, at)
        store(results, at, numbers)
    for at in range(whole, outs):
        number = get(sums, at)
        if scaled:
            number *= get(scales, at)
        if biased:
            number += get(bias, at)
        put(results, at, number)


@njit(nogil=True, error_model="numpy")
def _multiply_block(weights, count, outs, laid, factors, rows, sums):
    """Multiply a block of outputs' weights with the rows of a batch: sums [rows, _SUMS]."""
    for at in range(0, rows * _SUMS, WIDTH):
        store(sums, at, spread(float32(0)))
    for low in range(0, rows, _ROWS):  # as many as can be, while the weights come from memory
        high = min(rows, low + _ROWS)
        to = shifted(sums, low * _SUMS)
        for start in range(0, count, _CHUNK):
            size, number = min(_CHUNK, count - start), start // _CHUNK * rows + low
            states, some = _row(laid, number, weights), shifted(factors, number)
            _add_products(shifted(weights, start), count, outs, states, size, to, some, high - low)


@njit(nogil=True, error_model="numpy")
def _compute(
    weights, count, laid, factors, sums, rows, scales, scaled, bias, biased, results, block, outs,
    rounded,
):  # fmt: skip
    """Multiply a block of outputs' weights with the rows of a batch, and write the results.

    Pointers to scales, bias and results are to the first output's; rows are ``outs`` apart.
    """
    if is_tiled(weights):
        tiles, states = recast(weights, BFLOAT16), recast(laid, BFLOAT16)
        more, to = recast(bias, BFLOAT16), recast(results, BFLOAT16)
        cpu_amx.multiply(tiles, count, block, states, rows, more, biased, to, outs, factors)
        return
    if rounded:
        numbers, states = recast(weights, int8), recast(laid, uint8)
        beside = shifted(sums, -(-rows // EDGE) * EDGE * _SUMS + EDGE * _CHUNK // 2)
        cpu_amx.multiply_rounded(
            numbers, count, _CHUNK, block, states, factors, rows, sums, _SUMS, beside
        )
    else:
        _multiply_block(weights, count, block, laid, factors, rows, sums)
    for row in range(rows):
        some, to = shifted(sums, row * _SUMS), shifted(results, row * outs)
        _give(some, block, scales, scaled, bias, biased, to)


@njit(nogil=True, error_model="numpy")
def _batch(weights, rounded):
    """Return how many rows a thread lays out at a time."""
    return _TILED if is_tiled(weights) or rounded else _BATCH


@njit(nogil=True, error_model="numpy")
def _room(job, rows, count, weights, rounded):
    """Return a thread's room: for rows that are laid out, their factors, and sums, or tiles."""
    laid = pointer(get(job, 2) + take(shifted(job, 1)) * get(job, 3), float32)
    if is_tiled(weights):
        tiles = shifted(laid, -(-rows // EDGE) * EDGE * count // 2)
        return laid, tiles, tiles
    if rounded:
        whole = -(-rows // EDGE) * EDGE
        factors = shifted(laid, whole * count // 2)
        return laid, factors, shifted(factors, whole * -(-count // _CHUNK))
    pieces = rows * -(-count // _CHUNK)
    factors = shifted(laid, pieces * _CHUNK)
    return laid, factors, shifted(factors, pieces)


@njit(nogil=True, error_model="numpy")
def _multiply(job, weight_type, state_type):
    """Compute the products that a job is about, together with other threads.

    Args:
        job: pointer to its integers: four of the threads' (see ``threads.py``), addresses of
            weights [outs, count], scales [outs] float32 or 0, bias [outs] or 0, states
            [rows, count] and results [rows, outs], then outs, count, rows, and how many outputs
            a thread takes at a time. The bias has the type of the states.
        weight_type, state_type: of the elements; results are as states are.
    """
    outs, count, rows = get(job, 9), get(job, 10), get(job, 11)
    scales, bias = pointer(get(job, 5), float32), pointer(get(job, 6), state_type)
    every, size = pointer(get(job, 4), weight_type), get(job, 12)
    rounded = is_rounded(every, count, rows)
    most = _batch(every, rounded)
    laid, factors, sums = _room(job, min(rows, most), count, every, rounded)
    blocks, ready = -(-outs // size), -1
    while True:
        unit = take(job)
        start, first = unit // blocks * most, unit % blocks * size
        if start >= rows:
            break
        batch, block = min(most, rows - start), min(size, outs - first)
        weights = shifted(every, first * count)
        if start != ready:
            states = shifted(pointer(get(job, 7), state_type), start * count)
            _lay(states, count, batch, weights, laid, factors, rounded)
            ready = start
        results = shifted(pointer(get(job, 8), state_type), start * outs + first)
        factor, more = shifted(scales, first), shifted(bias, first)
        given = factor, get(job, 5) != 0, more, get(job, 6) != 0, results
        _compute(weights, count, laid, factors, sums, batch, *given, block, outs, rounded)


@njit(nogil=True, error_model="numpy")
def _multiply_groups(job, weight_type, state_type):
    """Compute the same for rows of which each group has weights of its own.

    Args:
        job: as of :func:`_multiply`, but weights [groups, outs, count], instead of a bias the
            address of where each group's rows end, [groups] int64, the number of all rows, and
            that of the groups at the end.
        weight_type, state_type: likewise.
    """
    outs, count, rows, size = get(job, 9), get(job, 10), get(job, 11), get(job, 12)
    ends, groups, scaled = pointer(get(job, 6), int64), get(job, 13), get(job, 5) != 0
    every = pointer(get(job, 4), weight_type)
    rounded = is_rounded(every, count, rows // groups)
    most = _batch(every, rounded)
    laid, factors, sums = _room(job, min(rows, most), count, every, rounded)
    blocks, ready = -(-outs // size), -1
    group, low, high, before = -1, 0, 0, 0
    after = 0  # units up to this group's end
    while True:
        unit = take(job)
        while unit >= after and group < groups:
            group, low, before = group + 1, high, after
            if group < groups:
                high = get(ends, group)
                after += -(-(high - low) // most) * blocks
        if group >= groups:
            break
        start, first = low + (unit - before) // blocks * most, (unit - before) % blocks * size
        batch, block = min(most, high - start), min(size, outs - first)
        weights = shifted(every, (group * outs + first) * count)
        if start != ready:
            states = shifted(pointer(get(job, 7), state_type), start * count)
            _lay(states, count, batch, weights, laid, factors, rounded)
            ready = start
        scales = shifted(pointer(get(job, 5), float32), group * outs + first)
        results = shifted(pointer(get(job, 8), state_type), start * outs + first)
        given = scales, scaled, results, False, results
        _compute(weights, count, laid, factors, sums, batch, *given, block, outs, rounded)


def products(weight_type: Any, state_type: Any, sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled for weights and states of two types.

    Args:
        weight_type: float32, BFLOAT16, FLOAT16, or int8, which is scaled.
        state_type: the same, or float32, BFLOAT16 or FLOAT16 with int8.
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(job):
        if sources:
            _multiply(integers(job), weight_type, state_type)

    return run


def group_products(weight_type: Any, state_type: Any, sources: int) -> Callable[[int], None]:
    """Return the function for rows of which each group has weights of its own; likewise."""

    def run(job):
        if sources:
            _multiply_groups(integers(job), weight_type, state_type)

    return run
