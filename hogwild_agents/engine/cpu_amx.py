"""CPU AMX: products of weights with the rows of a tick by tiles, on x86 processors that have them.

A tile is a register of 16 rows of 64 bytes, and one instruction multiplies two of them: 16 outputs'
weights, read where they lie, with 16 rows of states, laid out in pairs. So many rows cost what one
does, as long as the weights come from memory.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

import llvmlite.binding as llvm
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import uint8

from hogwild_agents.engine.vectors import (
    BFLOAT16,
    INTEGERS,
    VECTOR,
    WIDTH,
    build_narrowed,
    build_turned,
    build_widened,
    recast,
    shifted,
    tells,
)

EDGE = 16
"""Rows of a tile, and numbers of four bytes in one of them."""
PAIRS = 2 * EDGE
"""bfloat16 numbers in a row of a tile."""
ROOM = 4 * EDGE * EDGE * 4 + 64
"""Bytes that :func:`multiply` needs besides: four tiles of sums, and the tiles' shapes."""


def _are_there() -> bool:
    """Whether the processor has tiles, and the system lets this process use them."""
    known = llvm.get_host_cpu_features()
    ask = getattr(torch.cpu, "_init_amx", None)
    has = WIDTH == EDGE and known.get("amx-tile") and known.get("amx-bf16")
    return bool(has and ask is not None and ask())


TILES = _are_there()
"""Whether there are tiles."""

is_tiled = tells(BFLOAT16 if TILES else None)
"""Whether a pointer is one to weights that are multiplied by tiles, known when compiled."""

_BYTE, _I64 = ir.IntType(8), ir.IntType(64)
_POINTER = _BYTE.as_pointer()
_LINE = 64
_SUMS, _WEIGHTS, _STATES = (0, 1, 2, 3), (4, 5), (6, 7)
"""The tiles, by what they hold; sums of the first outputs' with both groups of rows come first."""


def _call(builder, name, *args):
    """Build an instruction of the tiles; whole numbers name them. Without tiles build nothing."""
    if not TILES:
        return
    values = [_BYTE(arg) if isinstance(arg, int) else arg for arg in args]
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    builder.call(function, values)


def _bytes(builder, pointer):
    return builder.bitcast(pointer, _POINTER)


@intrinsic
def _shape(context, room, outs):
    """Give the tiles their shapes, those of weights and sums so many rows; all become zero.

    Args:
        room: byte pointer to 64 bytes.
        outs: from 1 to EDGE.
    """

    def build(context, builder, signature, args):
        room, outs = args
        cgutils.memset(builder, room, _I64(_LINE), 0)
        builder.store(_BYTE(1), room)  # the one palette that there is
        rows = builder.trunc(outs, _BYTE)
        for tile in (*_SUMS, *_WEIGHTS, *_STATES):
            width = builder.gep(room, [_I64(16 + 2 * tile)])  # bytes of a row, of 16 bits
            builder.store(_BYTE(_LINE), width)
            height = builder.gep(room, [_I64(48 + tile)])
            builder.store(_BYTE(EDGE) if tile in _STATES else rows, height)
        _call(builder, "ldtilecfg", room)
        return context.get_dummy_value()

    return types.void(room, types.int64), build


@intrinsic
def _release(context):
    """Give the tiles back, so that the system need not keep them for this thread."""

    def build(context, builder, signature, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), build


@intrinsic
def _lay_tile(context, source, step, rows, to):
    """Turn PAIRS numbers of each of up to EDGE rows over: [pairs, rows, 2].

    Args:
        source: pointer to the first row's; others follow by ``step`` elements.
        rows: how many; the last one stands for those that lack.
        to: pointer to a tile.
    """

    def build(context, builder, signature, args):
        if not TILES:
            return context.get_dummy_value()
        source, step, rows, to = args
        last = builder.sub(rows, _I64(1))
        lines = []
        for row in range(EDGE):
            there = builder.select(builder.icmp_signed("<", _I64(row), last), _I64(row), last)
            line = builder.gep(source, [builder.mul(there, step)])
            lines.append(builder.load(builder.bitcast(line, INTEGERS.as_pointer()), align=2))
        place = builder.bitcast(to, INTEGERS.as_pointer())
        for pair, numbers in enumerate(build_turned(builder, lines)):
            builder.store(numbers, builder.gep(place, [_I64(pair)]), align=4)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, to), build


@njit(nogil=True, error_model="numpy")
def lay(states, count, rows, laid):
    """Lay rows [rows, count] out for tiles: [groups of EDGE rows, tiles, pairs, EDGE, 2].

    Args:
        states: pointer to bfloat16 numbers.
        count: of a row, a multiple of PAIRS.
        rows: how many.
        laid: pointer to room for bfloat16 numbers, for whole groups.
    """
    for first in range(0, rows, EDGE):
        some = min(EDGE, rows - first)
        for at in range(0, count, PAIRS):
            tile = first * count + at * EDGE
            _lay_tile(shifted(states, first * count + at), count, some, shifted(laid, tile))


@intrinsic
def _products(context, weights, count, states, sums, outs, groups):
    """Multiply tiles of weights with tiles of states: sums [outs, groups, EDGE, EDGE].

    Args:
        weights: pointer to the first output's; others follow by ``count`` elements.
        count: of weights of an output, a multiple of PAIRS.
        states: pointer to a group of rows as :func:`lay` wrote it; the next one follows.
        sums: byte pointer.
        outs, groups: 1 or 2: how many EDGE outputs, and how many groups of rows.
    """

    def build(context, builder, signature, args):
        *args, outs, groups = args
        done = builder.append_basic_block("done")
        choice = builder.switch(builder.add(builder.mul(outs, _I64(2)), groups), done)
        for some in (1, 2):
            for many in (1, 2):
                case = builder.append_basic_block(f"tiles.{some}.{many}")
                choice.add_case(_I64(2 * some + many), case)
                builder.position_at_end(case)
                _build_products(builder, args, some, many)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    number = types.int64
    return types.void(weights, number, states, sums, number, number), build


def _build_products(builder, args, some, many):
    """Build :func:`_products` for so many outputs and groups of rows."""
    weights, count, states, sums = args
    stride = builder.mul(count, _I64(2))
    apart = builder.mul(count, _I64(EDGE))
    lines = [builder.gep(weights, [builder.mul(apart, _I64(at))]) for at in range(some)]
    rows = [builder.gep(states, [builder.mul(apart, _I64(at))]) for at in range(many)]
    shape = [(out, group) for out in range(some) for group in range(many)]
    for out, group in shape:
        _call(builder, "tilezero", _SUMS[2 * out + group])
    with cgutils.for_range_slice(builder, _I64(0), count, _I64(PAIRS)) as (at, _):
        tile = builder.mul(at, _I64(EDGE))
        for group, row in enumerate(rows):
            there = _bytes(builder, builder.gep(row, [tile]))
            _call(builder, "tileloadd64", _STATES[group], there, _I64(_LINE))
        for out, line in enumerate(lines):
            here = _bytes(builder, builder.gep(line, [at]))
            _call(builder, "tileloadd64", _WEIGHTS[out], here, stride)
            for group in range(many):
                tiles = _SUMS[2 * out + group], _WEIGHTS[out], _STATES[group]
                _call(builder, "tdpbf16ps", *tiles)
    for place, (out, group) in enumerate(shape):
        to = builder.gep(sums, [_I64(place * EDGE * _LINE)])
        _call(builder, "tilestored64", _SUMS[2 * out + group], to, _I64(_LINE))


@intrinsic
def _give(context, source, outs, rows, bias, biased, results, step):
    """Add the bias to a tile of sums [outs, rows], and write them rounded.

    Args:
        source: byte pointer to the tile.
        outs, rows: how many of each there are, up to EDGE.
        bias: bfloat16 pointer to the first output's; read only if it is ``biased``.
        results: bfloat16 pointer to where the first row's go; others follow by ``step`` elements.
    """

    def build(context, builder, signature, args):
        if TILES:
            _build_giving(builder, *args)
        return context.get_dummy_value()

    number = types.int64
    given = source, number, number, bias, types.boolean, results, number
    return types.void(*given), build


def _build_giving(builder, source, outs, rows, bias, biased, results, step):
    """Build :func:`_give`: what lies outside of the outputs and rows is not touched."""
    places = ir.Constant(ir.VectorType(_I64, EDGE), list(range(EDGE)))
    inside = builder.icmp_signed("<", places, _spread(builder, outs))
    more = _masked(builder, "load", bias, builder.and_(inside, _spread(builder, biased)))
    more = build_widened(builder, more, BFLOAT16)
    place = builder.bitcast(source, INTEGERS.as_pointer())
    lines = [builder.load(builder.gep(place, [_I64(out)]), align=4) for out in range(EDGE)]
    for row, sums in enumerate(build_turned(builder, lines)):
        there = _spread(builder, builder.icmp_signed("<", _I64(row), rows))
        numbers = builder.fadd(builder.bitcast(sums, VECTOR), more)
        numbers = build_narrowed(builder, numbers, BFLOAT16)
        to = builder.gep(results, [builder.mul(step, _I64(row))])
        _masked(builder, "store", to, builder.and_(inside, there), numbers)


def _masked(builder, name, pointer, mask, *numbers):
    """Build a load of bfloat16 numbers, or a store, of those that a mask tells; others are 0."""
    vector = ir.VectorType(ir.IntType(16), EDGE)
    place, align = builder.bitcast(pointer, vector.as_pointer()), ir.IntType(32)(2)
    if name == "load":
        kind, args = vector, [place, align, mask, vector(None)]
    else:
        kind, args = ir.VoidType(), [*numbers, place, align, mask]
    kind = ir.FunctionType(kind, [arg.type for arg in args])
    name = f"llvm.masked.{name}.v{EDGE}i16.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _spread(builder, value):
    """Return a vector of one value."""
    empty = ir.Constant(ir.VectorType(value.type, EDGE), ir.Undefined)
    first = builder.insert_element(empty, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, empty, ir.Constant(INTEGERS, [0] * EDGE))


@njit(nogil=True, error_model="numpy")
def multiply(weights, count, outs, laid, rows, bias, biased, results, step, room):
    """Multiply outputs' weights with rows, and add the bias: results [rows, step].

    Args:
        weights: pointer to bfloat16 [outs, count].
        count: a multiple of PAIRS.
        laid: the rows as :func:`lay` wrote them.
        bias, results: bfloat16 pointers to the first output's; no bias is read unless ``biased``.
        room: pointer to ROOM bytes.
    """
    room = recast(room, uint8)
    whole, out = outs - outs % EDGE, 0
    while out < outs:
        width = min(EDGE, outs - out)
        if out in (0, whole):
            _shape(room, width)
        some = 1 + (whole - out >= 2 * EDGE)
        line, more, to = shifted(weights, out * count), shifted(bias, out), shifted(results, out)
        _multiply_outs(line, count, some, width, laid, rows, more, biased, to, step, room)
        out += some * EDGE
    _release()


@njit(nogil=True, error_model="numpy")
def _multiply_outs(weights, count, some, width, laid, rows, bias, biased, results, step, room):
    """Multiply one or two tiles of so many outputs each with all rows; see :func:`multiply`."""
    sums = shifted(room, _LINE)
    for first in range(0, rows, 2 * EDGE):
        many = 1 + (rows - first > EDGE)
        _products(weights, count, shifted(laid, first * count), sums, some, many)
        for place in range(some * many):
            out, row = place // many * EDGE, first + place % many * EDGE
            tile, to = shifted(sums, place * EDGE * _LINE), shifted(results, row * step + out)
            _give(tile, width, rows - row, shifted(bias, out), biased, to, step)
