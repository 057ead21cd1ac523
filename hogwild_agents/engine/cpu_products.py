"""CPU products: the compiled product of a linear layer's weights with the rows of a tick.

Weights of 16 bits are widened in registers, once for up to six rows, and everything is added up in
float32. Nothing is laid out anew: the weights are read where the model has them, at the speed of
memory as long as there are few rows.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import float32, int8, int64

from hogwild_agents.engine.vectors import (
    BFLOAT16,
    FLOAT16,
    VECTOR,
    WIDTH,
    build_load,
    build_total,
    call,
    copy,
    get,
    integers,
    load,
    pointer,
    prefetch,
    put,
    shifted,
    spread,
    store,
    take,
)

_ROWS = 6
"""At most so many rows at a time: their sums fill the registers of AVX2."""
_CHUNK = 1024
"""So many of the inputs at a time: those of all rows fit into the processor's first cache."""
BLOCK = 48
"""Outputs that one thread takes at a time, a multiple of 2, 3, 4 and of every WIDTH."""
PLACE = 4 * _ROWS * (_CHUNK + BLOCK)
"""Bytes that a thread needs for itself."""


@intrinsic(prefer_literal=True)
def _tiles(context, weights, step, outs, states, count, sums, several, rows):
    """Add the products of outputs' weights with some rows to their sums.

    Args:
        weights: pointer to the first output's; others follow by ``step`` elements.
        outs: how many outputs, a multiple of ``several``.
        states: float32 pointer to the first row; others follow by _CHUNK.
        count: of weights and states to multiply, a multiple of WIDTH.
        sums: float32 pointer to the first row's sums; others follow by BLOCK.
        several, rows: literal integers; sums of so many outputs and rows are held in registers.
    """
    element = weights.dtype
    outputs, many = several.literal_value, rows.literal_value
    shape = [(out, row) for out in range(outputs) for row in range(many)]

    def build(context, builder, signature, args):
        weights, step, outs, states, count, sums, _, _ = args
        number = ir.IntType(64)
        held = {at: cgutils.alloca_once(builder, VECTOR) for at in shape}
        line_size = max(WIDTH, 64 // (element.bitwidth // 8))  # of the processor's caches
        whole = builder.and_(count, number(-line_size))
        # Outputs that are multiplied at once lie far apart, so that each is a stream of its own for
        # the processor, which reads ahead.
        apart = builder.udiv(outs, number(outputs))
        with cgutils.for_range(builder, apart) as loop:
            for place in held.values():
                builder.store(VECTOR(None), place)
            here = {
                out: builder.add(loop.index, builder.mul(apart, number(out)))
                for out in range(outputs)
            }
            lines = {
                out: builder.gep(weights, [builder.mul(index, step)]) for out, index in here.items()
            }

            def add(at):
                """Add the products of WIDTH inputs from ``at`` on."""
                wide = {
                    out: build_load(context, builder, line, at, element)
                    for out, line in lines.items()
                }
                for row in range(many):
                    place = builder.add(at, number(row * _CHUNK))
                    state = build_load(context, builder, states, place, float32)
                    for out, weight in wide.items():
                        sum = builder.load(held[out, row])
                        builder.store(call(builder, "fma", weight, state, sum), held[out, row])

            with cgutils.for_range_slice(builder, number(0), whole, number(line_size)) as (at, _):
                for line in lines.values():
                    prefetch(builder, builder.gep(line, [builder.add(at, step)]))  # the next one's
                for start in range(0, line_size, WIDTH):
                    add(builder.add(at, number(start)))
            with cgutils.for_range_slice(builder, whole, count, number(WIDTH)) as (at, _):
                add(at)
            for (out, row), place in held.items():
                to = builder.gep(sums, [builder.add(here[out], number(row * BLOCK))])
                sum = build_total(builder, builder.load(place))
                builder.store(builder.fadd(builder.load(to), sum), to)
        return context.get_dummy_value()

    return types.void(weights, int64, int64, states, int64, sums, several, rows), build


@njit(nogil=True, error_model="numpy")
def _add_products(weights, step, outs, states, count, sums, rows):
    """Add the products of a block's outputs with up to _ROWS rows; see :func:`_tiles`."""
    several = 4 if rows <= 2 else 3 if rows <= 4 else 2
    whole = outs - outs % several
    if rows == 1:
        _tiles(weights, step, whole, states, count, sums, 4, 1)
    elif rows == 2:
        _tiles(weights, step, whole, states, count, sums, 4, 2)
    elif rows == 3:
        _tiles(weights, step, whole, states, count, sums, 3, 3)
    elif rows == 4:
        _tiles(weights, step, whole, states, count, sums, 3, 4)
    elif rows == 5:
        _tiles(weights, step, whole, states, count, sums, 2, 5)
    else:
        _tiles(weights, step, whole, states, count, sums, 2, 6)
    if whole < outs:
        rest = shifted(weights, whole * step)
        for row in range(rows):
            to = shifted(sums, row * BLOCK + whole)
            _tiles(rest, step, outs - whole, shifted(states, row * _CHUNK), count, to, 1, 1)


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
def _multiply(job, weight_type, state_type):
    """Compute the products that a job is about, together with other threads.

    Args:
        job: pointer to its integers: four of the threads' (see ``threads.py``), addresses of
            weights [outs, count], scales [outs] float32 or 0, bias [outs] or 0, states
            [rows, count] and results [rows, outs], then outs, count, rows. The bias has the
            type of the states.
        weight_type, state_type: of the elements; results are as states are.
    """
    outs, count, rows = get(job, 9), get(job, 10), get(job, 11)
    states, results = pointer(get(job, 7), state_type), pointer(get(job, 8), state_type)
    scales, bias = pointer(get(job, 5), float32), pointer(get(job, 6), state_type)
    room = pointer(get(job, 2) + take(shifted(job, 1)) * get(job, 3), float32)
    sums = shifted(room, _ROWS * _CHUNK)
    parts = -(-rows // _ROWS)
    while True:
        first = take(job) * BLOCK
        if first >= outs:
            break
        block = min(BLOCK, outs - first)
        weights = shifted(pointer(get(job, 4), weight_type), first * count)
        for part in range(parts):
            low, high = rows * part // parts, rows * (part + 1) // parts
            for at in range(0, (high - low) * BLOCK, WIDTH):
                store(sums, at, spread(float32(0)))
            for start in range(0, count, _CHUNK):
                size = min(_CHUNK, count - start)
                for row in range(low, high):
                    source = shifted(states, row * count + start)
                    copy(source, shifted(room, (row - low) * _CHUNK), size)
                _add_products(shifted(weights, start), count, block, room, size, sums, high - low)
            for row in range(low, high):
                _give(
                    shifted(sums, (row - low) * BLOCK),
                    block,
                    shifted(scales, first),
                    get(job, 5) != 0,
                    shifted(bias, first),
                    get(job, 6) != 0,
                    shifted(results, row * outs + first),
                )


def bfloat16_products(job):
    """Multiply bfloat16 with bfloat16."""
    _multiply(integers(job), BFLOAT16, BFLOAT16)


def float16_products(job):
    """Multiply float16 with float16."""
    _multiply(integers(job), FLOAT16, FLOAT16)


def int8_float32_products(job):
    """Multiply int8, scaled, with float32."""
    _multiply(integers(job), int8, float32)


def int8_bfloat16_products(job):
    """Multiply int8, scaled, with bfloat16."""
    _multiply(integers(job), int8, BFLOAT16)


def int8_float16_products(job):
    """Multiply int8, scaled, with float16."""
    _multiply(integers(job), int8, FLOAT16)
