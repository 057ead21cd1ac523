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
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.types import float32, int8, int16, uint8

from hogwild_agents.engine.vectors import (
    BFLOAT16,
    INTEGERS,
    VECTOR,
    WIDTH,
    build_exact,
    build_narrowed,
    build_turned,
    build_widened,
    recast,
    shifted,
    tells,
)

EDGE = 16
"""Rows of a tile, and numbers of four bytes in one of them."""
PAIRS, FOURS = 2 * EDGE, 4 * EDGE
"""Numbers in a row of a tile, of bfloat16 and of int8."""
LINE = 64
"""Bytes in a row of a tile."""
ROOM = 6 * EDGE * EDGE * 4 + 64
"""Bytes that products need besides: six tiles of sums, and the tiles' shapes."""


def _are_there() -> bool:
    """Whether the processor has tiles, numba knows, and the system lets this process use them.

    What goes with them needs vectors of AVX-512, with its instructions for parts of a number.
    """
    known = llvm.get_host_cpu_features()
    ask = getattr(torch.cpu, "_init_amx", None)
    names = ["amx-tile", "amx-bf16", "amx-int8", "avx512dq"]
    has = WIDTH == EDGE and all(known.get(name) for name in names)
    if config.CPU_FEATURES is not None:  # NUMBA_CPU_FEATURES: compile for these alone
        has = has and {f"+{name}" for name in names} <= {*config.CPU_FEATURES.split(",")}
    elif config.CPU_NAME == "generic":  # NUMBA_CPU_NAME: compile for none
        has = False
    return bool(has and ask is not None and ask())


TILES = _are_there()
"""Whether there are tiles."""

is_tiled = tells(BFLOAT16 if TILES else None)
"""Whether a pointer is one to bfloat16 weights that tiles multiply, known when compiled."""

_FEW = 8
"""So many rows are multiplied with int8 weights as fast without tiles."""

_is_rounded = tells(int8 if TILES else None)

_BYTE, _I64 = ir.IntType(8), ir.IntType(64)
_POINTER = _BYTE.as_pointer()
_SUMS, _WEIGHTS, _STATES = (0, 1, 2, 3), (4, 5), (6, 7)
"""The tiles, by what they hold: the first outputs' sums with both kinds of states come first."""


def build_tiles(builder, name, *args):
    """Build an instruction of the tiles; whole numbers name them. Without tiles build nothing."""
    if not TILES:
        return

    def given(arg):
        if isinstance(arg, int):
            return _BYTE(arg)
        return builder.bitcast(arg, _POINTER) if arg.type.is_pointer else arg

    values = [given(arg) for arg in args]
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}")
    builder.call(function, values)


def build_shapes(builder, room, heights):
    """Build: give the tiles their shapes, of so many rows each; all tiles become zero.

    Args:
        room: byte pointer to 64 bytes.
        heights: of each tile that is used, a byte.
    """
    cgutils.memset(builder, room, _I64(LINE), 0)
    builder.store(_BYTE(1), room)  # the one palette that there is
    for tile, height in heights.items():
        width = builder.gep(room, [_I64(16 + 2 * tile)])  # bytes of a row, of 16 bits
        builder.store(_BYTE(LINE), width)
        builder.store(height, builder.gep(room, [_I64(48 + tile)]))
    build_tiles(builder, "ldtilecfg", room)


@intrinsic
def _shape(context, room, outs):
    """Give the tiles their shapes, those of weights and sums so many rows; all become zero.

    Args:
        room: byte pointer to 64 bytes.
        outs: from 1 to EDGE.
    """

    def build(context, builder, signature, args):
        room, outs = args
        heights = dict.fromkeys((*_SUMS, *_WEIGHTS), builder.trunc(outs, _BYTE))
        build_shapes(builder, room, heights | dict.fromkeys(_STATES, _BYTE(EDGE)))
        return context.get_dummy_value()

    return types.void(room, types.int64), build


@intrinsic
def release(context):
    """Give the tiles back, so that the system need not keep them for this thread."""

    def build(context, builder, signature, args):
        build_tiles(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), build


@intrinsic
def lay_tile(context, source, step, rows, to):
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
            lay_tile(shifted(states, first * count + at), count, some, shifted(laid, tile))


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
        build_tiles(builder, "tilezero", _SUMS[2 * out + group])
    with cgutils.for_range_slice(builder, _I64(0), count, _I64(PAIRS)) as (at, _):
        tile = builder.mul(at, _I64(EDGE))
        for group, row in enumerate(rows):
            there = builder.gep(row, [tile])
            build_tiles(builder, "tileloadd64", _STATES[group], there, _I64(LINE))
        for out, line in enumerate(lines):
            here = builder.gep(line, [at])
            build_tiles(builder, "tileloadd64", _WEIGHTS[out], here, stride)
            for group in range(many):
                tiles = _SUMS[2 * out + group], _WEIGHTS[out], _STATES[group]
                build_tiles(builder, "tdpbf16ps", *tiles)
    for place, (out, group) in enumerate(shape):
        to = builder.gep(sums, [_I64(place * EDGE * LINE)])
        build_tiles(builder, "tilestored64", _SUMS[2 * out + group], to, _I64(LINE))


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
    release()


@njit(nogil=True, error_model="numpy")
def _multiply_outs(weights, count, some, width, laid, rows, bias, biased, results, step, room):
    """Multiply one or two tiles of so many outputs each with all rows; see :func:`multiply`."""
    sums = shifted(room, LINE)
    for first in range(0, rows, 2 * EDGE):
        many = 1 + (rows - first > EDGE)
        _products(weights, count, shifted(laid, first * count), sums, some, many)
        for place in range(some * many):
            out, row = place // many * EDGE, first + place % many * EDGE
            tile, to = shifted(sums, place * EDGE * LINE), shifted(results, row * step + out)
            _give(tile, width, rows - row, shifted(bias, out), biased, to, step)


# -- weights of 8 bits


@njit(nogil=True, error_model="numpy")
def is_rounded(weights, count, rows):
    """Whether weights are int8 ones, with so many for an output, that tiles multiply faster."""
    return _is_rounded(weights) and count % FOURS == 0 and rows > _FEW


@intrinsic
def _lay_halves(context, source, step, rows, to):
    """Turn FOURS integers of 16 bits of each of up to EDGE rows over: [2, fours, rows, 4] bytes.

    The first are the upper halves, which have a sign, the second the lower ones, which have none.

    Args:
        source: pointer to the first row's; others follow by ``step`` integers.
        rows: how many; the last one stands for those that lack.
        to: byte pointer to two tiles.
    """

    def build(context, builder, signature, args):
        if TILES:
            _build_halves(builder, *args)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, to), build


def _build_halves(builder, source, step, rows, to):
    """Build :func:`_lay_halves`."""
    short, byte = (ir.VectorType(ir.IntType(bits), FOURS) for bits in (16, 8))
    source = builder.bitcast(source, ir.IntType(16).as_pointer())
    last = builder.sub(rows, _I64(1))
    lines = []
    for row in range(EDGE):
        there = builder.select(builder.icmp_signed("<", _I64(row), last), _I64(row), last)
        line = builder.gep(source, [builder.mul(there, step)])
        lines.append(builder.load(builder.bitcast(line, short.as_pointer()), align=2))
    place = builder.bitcast(to, INTEGERS.as_pointer())
    shift = ir.Constant(short, [8] * FOURS)
    for half, upper in enumerate((True, False)):
        parts = [builder.ashr(line, shift) if upper else line for line in lines]
        parts = [builder.bitcast(builder.trunc(part, byte), INTEGERS) for part in parts]
        for four, numbers in enumerate(build_turned(builder, parts)):
            builder.store(numbers, builder.gep(place, [_I64(half * EDGE + four)]), align=4)


@njit(nogil=True, error_model="numpy")
def lay_halves(numbers, step, count, rows, laid):
    """Lay up to EDGE rows of integers of 16 bits out for tiles: [tiles, 2, fours, EDGE, 4] bytes.

    Args:
        numbers: pointer to the first row's; others follow by ``step`` integers.
        count: of a row, a multiple of FOURS.
        laid: byte pointer.
    """
    for at in range(0, count, FOURS):
        source = shifted(recast(numbers, int16), at)
        _lay_halves(source, step, rows, shifted(laid, 2 * at * EDGE))


@intrinsic
def _rounded_products(context, weights, step, count, states, sums, outs):
    """Multiply one or two tiles' outputs with a group of rows: sums [outs, 2, EDGE, EDGE] int32.

    Args:
        weights: int8 pointer to the first output's; others follow by ``step``.
        count: how many of an output's, a multiple of FOURS.
        states: byte pointer to the group as :func:`lay_halves` wrote it.
        sums: byte pointer; the upper halves' come first.
        outs: 1 or 2.
    """

    def build(context, builder, signature, args):
        *args, outs = args
        done = builder.append_basic_block("done")
        choice = builder.switch(outs, done)
        for some in (1, 2):
            case = builder.append_basic_block(f"tiles.{some}")
            choice.add_case(_I64(some), case)
            builder.position_at_end(case)
            _build_rounded_products(builder, *args, some)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    number = types.int64
    return types.void(weights, number, number, states, sums, number), build


def _build_rounded_products(builder, weights, step, count, states, sums, some):
    """Build :func:`_rounded_products` for so many tiles of outputs."""
    apart = builder.mul(step, _I64(EDGE))
    lines = [builder.gep(weights, [builder.mul(apart, _I64(at))]) for at in range(some)]
    for tile in _SUMS[: 2 * some]:
        build_tiles(builder, "tilezero", tile)
    with cgutils.for_range_slice(builder, _I64(0), count, _I64(FOURS)) as (at, _):
        there = builder.gep(states, [builder.mul(at, _I64(2 * EDGE))])
        for half, tile in enumerate(_STATES):
            place = builder.gep(there, [_I64(half * EDGE * LINE)])
            build_tiles(builder, "tileloadd64", tile, place, _I64(LINE))
        for out, line in enumerate(lines):
            here = builder.gep(line, [at])
            build_tiles(builder, "tileloadd64", _WEIGHTS[out], here, step)
            build_tiles(builder, "tdpbssd", _SUMS[2 * out], _WEIGHTS[out], _STATES[0])
            build_tiles(builder, "tdpbsud", _SUMS[2 * out + 1], _WEIGHTS[out], _STATES[1])
    for tile in _SUMS[: 2 * some]:
        to = builder.gep(sums, [_I64(tile * EDGE * LINE)])
        build_tiles(builder, "tilestored64", tile, to, _I64(LINE))


@intrinsic
def _add_halves(context, halves, factors, fresh, sums):
    """Add two tiles of integers, upper halves first, times each row's factor to a tile of sums."""

    def build(context, builder, signature, args):
        if not TILES:
            return context.get_dummy_value()
        halves, factors, fresh, sums = args
        place = builder.bitcast(halves, INTEGERS.as_pointer())
        factor = builder.load(builder.bitcast(factors, VECTOR.as_pointer()), align=4)
        for out in range(EDGE):
            upper, lower = (
                builder.load(builder.gep(place, [_I64(at)]), align=4) for at in (out, EDGE + out)
            )
            both = build_exact(builder, upper, lower, 256.0)
            to = builder.gep(builder.bitcast(sums, VECTOR.as_pointer()), [_I64(out)])
            was = builder.select(fresh, VECTOR(None), builder.load(to, align=4))
            builder.store(builder.fadd(was, builder.fmul(both, factor)), to, align=4)
        return context.get_dummy_value()

    return types.void(halves, factors, types.boolean, sums), build


@intrinsic
def _turn_sums(context, source, to, step):
    """Turn a tile of sums [outs, rows] over, to rows that follow by ``step`` float32."""

    def build(context, builder, signature, args):
        if not TILES:
            return context.get_dummy_value()
        source, to, step = args
        place = builder.bitcast(source, INTEGERS.as_pointer())
        lines = [builder.load(builder.gep(place, [_I64(out)]), align=4) for out in range(EDGE)]
        for row, numbers in enumerate(build_turned(builder, lines)):
            there = builder.gep(to, [builder.mul(step, _I64(row))])
            there = builder.bitcast(there, VECTOR.as_pointer())
            builder.store(builder.bitcast(numbers, VECTOR), there, align=4)
        return context.get_dummy_value()

    return types.void(source, to, types.int64), build


@njit(nogil=True, error_model="numpy")
def multiply_rounded(weights, count, chunk, outs, laid, factors, rows, sums, step, room):
    """Multiply outputs' int8 weights with rows of 16-bit integers: sums [rows, step] float32.

    Args:
        weights: pointer to [outs, count].
        count: a multiple of FOURS.
        chunk: of how many numbers of a row each has a factor of its own.
        laid: groups of EDGE rows as :func:`lay_halves` wrote them, [groups, count, 2, EDGE] bytes.
        factors: float32 pointer to those of each chunk's rows, [chunks, rows in whole groups].
        sums: float32 pointer, with room for whole groups of rows and of outputs.
        room: pointer to ROOM bytes.
    """
    room = recast(room, uint8)
    whole, out = outs - outs % EDGE, 0
    while out < outs:
        if out in (0, whole):
            _shape(room, min(EDGE, outs - out))
        some = 1 + (whole - out >= 2 * EDGE)
        line, to = shifted(weights, out * count), shifted(sums, out)
        _multiply_rounded_outs(line, count, chunk, some, laid, factors, rows, to, step, room)
        out += some * EDGE
    release()


@njit(nogil=True, error_model="numpy")
def _multiply_rounded_outs(weights, count, chunk, some, laid, factors, rows, sums, step, room):
    """Multiply one or two tiles of outputs with all rows; see :func:`multiply_rounded`."""
    tile, whole = EDGE * LINE, -(-rows // EDGE) * EDGE
    halves = shifted(room, LINE)
    added = shifted(halves, 4 * tile)
    for first in range(0, rows, EDGE):
        states = shifted(laid, 2 * first * count)
        for start in range(0, count, chunk):
            size, given = min(chunk, count - start), shifted(states, 2 * EDGE * start)
            _rounded_products(shifted(weights, start), count, size, given, halves, some)
            factor = shifted(factors, start // chunk * whole + first)
            for out in range(some):
                parts, to = shifted(halves, 2 * out * tile), shifted(added, out * tile)
                _add_halves(parts, factor, start == 0, to)
        for out in range(some):
            to = shifted(sums, first * step + out * EDGE)
            _turn_sums(recast(shifted(added, out * tile), float32), to, step)
