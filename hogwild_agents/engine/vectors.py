"""Vectors: numbers side by side in a register, for the engine's own kernels on the CPU.

numba compiles Python functions for the processor at hand. What it lacks are a vector type, 16-bit
floats, and pointers into tensors; they are added here. A kernel names the type of what it reads by
a pointer's: ``float32``, ``int8``, or what stands for a 16-bit float, BFLOAT16 or FLOAT16.

Importing this module imports numba.
"""

from __future__ import annotations

import operator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_jitable, register_model
from numba.types import float32

WIDTH = 16 if llvm.get_host_cpu_features().get("avx512f") else 8
"""Numbers in a vector. Where registers are smaller, LLVM takes several for one."""

BFLOAT16, FLOAT16 = types.uint16, types.int16
"""numba's types that stand for the bits of 16-bit floats, of which it has none."""

_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(_F32, WIDTH)
INTEGERS = ir.VectorType(_I32, WIDTH)
_EIGHT, _PLACES = ir.VectorType(_F32, 8), ir.VectorType(_I32, 8)
_NAME = f"v{WIDTH}f32"
_LINE = 64
"""Bytes of a line of the processor's caches."""


@register_jitable
def padded(count: int) -> int:
    """Return how many numbers whole vectors have that hold so many."""
    return -(-count // WIDTH) * WIDTH


class Vector(types.Type):
    """numba's type of ``WIDTH`` float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{WIDTH}")


vector = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


# -- pointers


@intrinsic
def pointer(context, address, element):
    """Return a pointer to elements of a type at an address, an integer."""
    kind = types.CPointer(element.instance_type)

    def build(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, element), build


@intrinsic
def integers(context, address):
    """Return a pointer to 64-bit integers from one to nothing in particular."""
    kind = types.CPointer(types.int64)

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(kind))

    return kind(types.voidptr), build


@intrinsic
def recast(context, pointer, element):
    """Return a pointer to elements of a type from one to anything."""
    kind = types.CPointer(element.instance_type)

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(kind))

    return kind(pointer, element), build


def tells(kind):
    """Return an intrinsic: whether a pointer's elements are of a type, known when compiled."""

    @intrinsic
    def tell(context, pointer):
        known = pointer.dtype == kind

        def build(context, builder, signature, args):
            return ir.Constant(ir.IntType(1), known)

        return types.boolean(pointer), build

    return tell


# LLVM leaves out the branch that is not taken.
is_float32, is_int8 = tells(types.float32), tells(types.int8)


@intrinsic
def shifted(context, pointer, count):
    """Return a pointer to the element that lies so many further on."""

    def build(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), build


@intrinsic
def get(context, pointer, index):
    """Return one element; a 16-bit float as a float32."""
    element = pointer.dtype
    result = element if element in (types.int64, types.float64) else types.float32

    def build(context, builder, signature, args):
        value = builder.load(builder.gep(args[0], [args[1]]))
        return build_widened(builder, value, element, _F32, _I32)

    return result(pointer, types.int64), build


@intrinsic
def put(context, pointer, index, value):
    """Write one float32, rounded to the pointer's type."""
    element = pointer.dtype

    def build(context, builder, signature, args):
        number = build_narrowed(builder, args[2], element)
        builder.store(number, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.float32), build


@intrinsic
def set_integer(context, pointer, index, value):
    """Write one 64-bit integer."""

    def build(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64), build


@intrinsic
def take(context, pointer):
    """Add 1 to an integer that several threads share, and return what it was."""

    def build(context, builder, signature, args):
        return builder.atomic_rmw("add", args[0], ir.Constant(_I64, 1), "monotonic")

    return types.int64(pointer), build


# -- memory and vectors


@intrinsic
def load(context, pointer, index):
    """Return ``WIDTH`` elements from ``index`` on, as float32."""
    element = pointer.dtype

    def build(context, builder, signature, args):
        return build_load(context, builder, args[0], args[1], element)

    return vector(pointer, types.int64), build


@intrinsic
def store(context, pointer, index, value):
    """Write ``WIDTH`` numbers from ``index`` on, rounded to the pointer's type."""
    element = pointer.dtype

    def build(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]])
        numbers = build_narrowed(builder, args[2], element)
        to = builder.bitcast(place, numbers.type.as_pointer())
        builder.store(numbers, to, align=context.get_abi_sizeof(context.get_value_type(element)))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, vector), build


def build_load(context, builder, base, index, element):
    kind = context.get_value_type(element)
    place = builder.bitcast(builder.gep(base, [index]), ir.VectorType(kind, WIDTH).as_pointer())
    numbers = builder.load(place, align=context.get_abi_sizeof(kind))
    return build_widened(builder, numbers, element)


def build_pair(context, builder, base, index, element):
    """Load twice ``WIDTH`` elements as two vectors, in the order that costs least.

    Of bfloat16 they are the even ones and the odd ones: a register full of them becomes float32 by
    one shift and by one mask.
    """
    if element != BFLOAT16:
        after = builder.add(index, ir.Constant(_I64, WIDTH))
        return [build_load(context, builder, base, at, element) for at in (index, after)]
    place = builder.bitcast(builder.gep(base, [index]), INTEGERS.as_pointer())
    return build_halves(builder, builder.load(place, align=2), element)


def build_halves(builder, bits, element):
    """Return the elements in a vector of 32-bit integers as vectors of float32: one, or two."""
    if element == BFLOAT16:
        halves = builder.shl(bits, _all(16)), builder.and_(bits, _all(0xFFFF0000))
        return [builder.bitcast(half, VECTOR) for half in halves]
    if element == FLOAT16:
        short = ir.VectorType(_I16, WIDTH)
        halves = [builder.trunc(half, short) for half in (bits, builder.lshr(bits, _all(16)))]
        return [build_widened(builder, half, element) for half in halves]
    return [builder.bitcast(bits, VECTOR)]


def build_turned(builder, rows):
    """Turn a matrix of ``WIDTH`` vectors of ``WIDTH`` 32-bit integers over."""

    def shuffled(left, right, places):
        return builder.shuffle_vector(left, right, ir.Constant(INTEGERS, places))

    def mixed(left, right, quad):
        """Take four numbers of each quarter of a register: the cheapest way to move them."""
        first = [place % 4 + place // 4 * WIDTH for place in quad]
        return shuffled(left, right, [at + place for at in range(0, WIDTH, 4) for place in first])

    columns = []  # by the first row of four, then by column of a quarter
    for first in range(0, WIDTH, 4):
        one, two, three, four = rows[first : first + 4]
        low, high = [mixed(one, two, quad) for quad in ((0, 4, 1, 5), (2, 6, 3, 7))]
        lower, higher = [mixed(three, four, quad) for quad in ((0, 4, 1, 5), (2, 6, 3, 7))]
        pairs = (low, lower), (high, higher)
        halves = (0, 1, 4, 5), (2, 3, 6, 7)
        columns.append([mixed(*pair, half) for pair in pairs for half in halves])
    turned = {}
    for column, quarters in enumerate(zip(*columns, strict=True)):
        for at, vector in enumerate(_quarters_turned(shuffled, list(quarters))):
            turned[4 * at + column] = vector
    return [turned[at] for at in range(WIDTH)]


def _quarters_turned(shuffled, vectors):
    """Turn a matrix of vectors over whose elements are quarters: four numbers each."""

    def take(left, right, quarters):
        return shuffled(left, right, [4 * at + place for at in quarters for place in range(4)])

    if len(vectors) == 2:
        return [take(*vectors, (0, 2)), take(*vectors, (1, 3))]
    pairs = vectors[:2], vectors[2:]
    evens = [take(*pair, (0, 2, 4, 6)) for pair in pairs]
    odds = [take(*pair, (1, 3, 5, 7)) for pair in pairs]
    return [
        take(*some, quarters) for quarters in ((0, 2, 4, 6), (1, 3, 5, 7)) for some in (evens, odds)
    ]


@intrinsic
def copy_pairs(context, source, to, count):
    """Copy so many numbers to float32, a multiple of twice ``WIDTH``, in the order of pairs."""
    element = source.dtype

    def build(context, builder, signature, args):
        source, to, count = args
        step = ir.Constant(_I64, 2 * WIDTH)
        with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), count, step) as (at, _):
            place = builder.bitcast(builder.gep(to, [at]), VECTOR.as_pointer())
            for number, half in enumerate(build_pair(context, builder, source, at, element)):
                builder.store(half, builder.gep(place, [_I32(number)]), align=4)
        return context.get_dummy_value()

    return types.void(source, to, types.int64), build


@intrinsic
def put_integers(context, pointer, index, value):
    """Write ``WIDTH`` numbers from the ``index``-th 16-bit integer on, each the nearest one."""

    def build(context, builder, signature, args):
        base, index, value = args
        numbers = builder.fptosi(call(builder, "rint", value), INTEGERS)
        numbers = builder.trunc(numbers, ir.VectorType(_I16, WIDTH))
        place = builder.gep(builder.bitcast(base, _I16.as_pointer()), [index])
        builder.store(numbers, builder.bitcast(place, numbers.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, vector), build


def build_widened(builder, numbers, element, floats=VECTOR, wide=INTEGERS):
    """Return elements of a type as float32."""
    if element == BFLOAT16:  # bfloat16: the upper half of a float32
        return builder.bitcast(builder.shl(builder.zext(numbers, wide), _all(16, wide)), floats)
    if element == FLOAT16:
        half = _like(numbers, ir.HalfType())
        return builder.fpext(builder.bitcast(numbers, half), floats)
    return numbers


def build_narrowed(builder, numbers, element):
    """Return float32 rounded to elements of a type."""
    if element == FLOAT16:
        return builder.bitcast(
            builder.fptrunc(numbers, _like(numbers, ir.HalfType())), _like(numbers, _I16)
        )
    if element != BFLOAT16:
        return numbers
    wide = _like(numbers, _I32)
    bits = builder.bitcast(numbers, wide)  # to the nearest, ties to even
    odd = builder.and_(builder.lshr(bits, _all(16, wide)), _all(1, wide))
    rounded = builder.add(builder.add(bits, _all(0x7FFF, wide)), odd)
    nothing = builder.fcmp_unordered("uno", numbers, numbers)
    rounded = builder.select(nothing, _all(0x7FC00000, wide), rounded)
    return builder.trunc(builder.lshr(rounded, _all(16, wide)), _like(numbers, _I16))


def _like(numbers, kind):
    """Return a type for as many of a kind as there are numbers."""
    return ir.VectorType(kind, WIDTH) if isinstance(numbers.type, ir.VectorType) else kind


def _all(number, kind=INTEGERS):
    return ir.Constant(kind, [number] * WIDTH if isinstance(kind, ir.VectorType) else number)


@njit(nogil=True, error_model="numpy")
def copy(source, to, count):
    """Copy so many numbers, each rounded to the type of the pointer they go to."""
    whole = count - count % WIDTH
    for at in range(0, whole, WIDTH):
        store(to, at, load(source, at))
    for at in range(whole, count):
        put(to, at, get(source, at))


# -- arithmetic


@intrinsic
def spread(context, number):
    """Return a vector of one number."""

    def build(context, builder, signature, args):
        return build_spread(builder, args[0])

    return vector(types.float32), build


def build_spread(builder, number):
    empty = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(empty, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(INTEGERS, [0] * WIDTH))


@intrinsic
def counted(context, first):
    """Return a vector of whole numbers from one on."""

    def build(context, builder, signature, args):
        steps = ir.Constant(VECTOR, [float(step) for step in range(WIDTH)])
        return builder.fadd(build_spread(builder, args[0]), steps)

    return vector(types.float32), build


def _binary(name):
    @intrinsic
    def operation(context, left, right):
        def build(context, builder, signature, args):
            return getattr(builder, name)(*args)

        return vector(vector, vector), build

    return operation


@intrinsic
def fma(context, left, right, more):
    """Return the product of two vectors plus a third, rounded once."""

    def build(context, builder, signature, args):
        return call(builder, "fma", *args)

    return vector(vector, vector, vector), build


def call(builder, name, *args):
    vectors = args[0].type
    kind = ir.FunctionType(vectors, [vectors] * len(args))
    name = f"llvm.{name}.v{vectors.count}f32"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, args)


def build_blocks(builder, count, many, unit, block):
    """Build a loop over ``count`` elements: ``many`` units of them at a time, then one by one.

    Args:
        count: how many elements there are, an int64; a multiple of ``unit``.
        many, unit: numbers known when compiled.
        block: builds the body; it is given the first element, an int64, and how many units.
    """
    size = ir.Constant(_I64, many * unit)
    whole = builder.mul(builder.udiv(count, size), size)
    for start, stop, units in ((ir.Constant(_I64, 0), whole, many), (whole, count, 1)):
        step = ir.Constant(_I64, units * unit)
        with cgutils.for_range_slice(builder, start, stop, step) as (first, _):
            block(first, units)


def prefetch(builder, start, count, element):
    """Ask for so many elements that will be read soon; they need not exist."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for at in range(0, count, 8 * _LINE // element.bitwidth):
        place = builder.bitcast(builder.gep(start, [_I32(at)]), byte)
        builder.call(function, [place, _I32(0), _I32(3), _I32(1)])


_add, _subtract, _multiply, _divide = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def maximum(context, left, right):
    """Return the larger ones of two vectors' numbers; those on the right where either is NaN."""

    def build(context, builder, signature, args):
        return _build_maximum(builder, *args)

    return vector(vector, vector), build


def _build_maximum(builder, left, right):
    """Build one instruction, unlike LLVM's own maximum, which does not let a NaN pass."""
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def _overloaded(operation):
    def typed(left, right):
        if isinstance(left, Vector) and isinstance(right, Vector):
            return lambda left, right: operation(left, right)
        return None

    return typed


overload(operator.add)(_overloaded(_add))
overload(operator.sub)(_overloaded(_subtract))
overload(operator.mul)(_overloaded(_multiply))
overload(operator.truediv)(_overloaded(_divide))


def build_total(builder, numbers):
    """Add up a vector's numbers."""
    kind = ir.FunctionType(_F32, [_F32, VECTOR])
    name = f"llvm.vector.reduce.fadd.{_NAME}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [ir.Constant(_F32, 0.0), numbers], fastmath=("reassoc",))


@intrinsic
def total(context, numbers):
    """Return the sum of a vector's numbers."""

    def build(context, builder, signature, args):
        return build_total(builder, args[0])

    return types.float32(vector), build


def build_totals(builder, several):
    """Add up the numbers of each of up to 8 vectors, and return the sums as one of 8 float32.

    Of integers half of a vector's must have a sum of 32 bits. What all come to is rounded once.
    """
    whole_numbers = several[0].type == INTEGERS
    add = builder.add if whole_numbers else builder.fadd
    eight = [_folded(builder, numbers, add) for numbers in several]
    eight += [eight[0].type(None)] * (8 - len(eight))

    def sides(left, right, firsts, seconds):
        return [
            builder.shuffle_vector(left, right, ir.Constant(_PLACES, places))
            for places in (firsts, seconds)
        ]

    for _ in range(2):  # neighbours, within halves of a register: that costs least
        pairs = zip(eight[::2], eight[1::2], strict=True)
        evens, odds = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
        eight = [add(*sides(left, right, evens, odds)) for left, right in pairs]
    halves = sides(*eight, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])
    return build_exact(builder, *halves) if whole_numbers else add(*halves)


def build_exact(builder, left, right, factor=1.0):
    """Add integers times a power of two and others, and round what they come to to float32 once."""
    count = left.type.count
    wide = ir.VectorType(ir.DoubleType(), count)
    left, right = (builder.sitofp(one, wide) for one in (left, right))
    both = builder.fadd(builder.fmul(left, ir.Constant(wide, [factor] * count)), right)
    return builder.fptrunc(both, ir.VectorType(_F32, count))


def _folded(builder, numbers, add):
    """Return 8 numbers of the same sum as a vector's."""
    if WIDTH == 8:
        return numbers
    halves = (ir.Constant(_PLACES, [*places]) for places in (range(8), range(8, 16)))
    return add(*(builder.shuffle_vector(numbers, numbers, half) for half in halves))


@intrinsic
def largest(context, numbers):
    """Return the largest of a vector's numbers; any of them where one is NaN."""

    def build(context, builder, signature, args):
        numbers, apart = args[0], WIDTH
        while apart > 1:  # LLVM's own compares one number after the other, for the sake of NaN
            apart //= 2
            there = [(at + apart) % WIDTH for at in range(WIDTH)]
            other = builder.shuffle_vector(numbers, numbers, ir.Constant(INTEGERS, there))
            numbers = _build_maximum(builder, numbers, other)
        return builder.extract_element(numbers, _I32(0))

    return types.float32(vector), build


@intrinsic
def any_above(context, left, right):
    """Whether a number is above its counterpart."""

    def build(context, builder, signature, args):
        above = builder.fcmp_ordered(">", *args)
        bits = builder.bitcast(above, ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(vector, vector), build


@intrinsic
def between(context, low, number, high, value, otherwise):
    """Return ``value`` where ``low`` <= ``number`` <= ``high``, else ``otherwise``."""

    def build(context, builder, signature, args):
        low, number, high, value, otherwise = args
        above = builder.fcmp_ordered("<=", low, number)
        within = builder.and_(above, builder.fcmp_ordered("<=", number, high))
        return builder.select(within, value, otherwise)

    return vector(vector, vector, vector, vector, vector), build


_WHOLE = 1.5 * 2**23
"""What rounds a small number to a whole one by being added to it."""


@intrinsic
def exp(context, number):
    """Return e to the power of numbers up to 88, to 2 units in the last place; 0 below -87.3."""

    def build(context, builder, signature, args):
        return build_exp(builder, args[0])

    return vector(vector), build


def build_exp(builder, numbers):
    """Build :func:`exp` for a vector of any size.

    What is as long as several registers keeps the processor busy: each step waits for the last.
    """
    kind = numbers.type
    wide = ir.VectorType(_I32, kind.count)

    def all(value):
        return ir.Constant(kind, [value] * kind.count)

    bounded = _build_maximum(builder, all(-87.3), numbers)
    sum = call(builder, "fma", bounded, all(1.4426950408889634), all(_WHOLE))
    whole = builder.fsub(sum, all(_WHOLE))
    rest = call(builder, "fma", whole, all(-0.693359375), bounded)
    rest = call(builder, "fma", whole, all(2.12194440e-4), rest)
    # Of degree 6, with the least error between -ln(2) / 2 and ln(2) / 2: 3e-9.
    first, *others = (
        0.0013814541138503313, 0.008368745140756686, 0.041668390767676526,
        0.1666652039870018, 0.4999999343218732, 1.0, 1.0,
    )  # fmt: skip
    series = all(first)
    for factor in others:
        series = call(builder, "fma", series, rest, all(factor))
    power = builder.shl(builder.bitcast(sum, wide), ir.Constant(wide, [23] * kind.count))
    result = builder.bitcast(builder.add(builder.bitcast(series, wide), power), kind)
    above = builder.fcmp_unordered(">=", numbers, all(-87.3))
    return builder.select(above, result, kind(None))


@njit(nogil=True)
def tanh(number):
    """Return the hyperbolic tangent."""
    one = spread(float32(1))
    size = maximum(number, spread(float32(0)) - number)
    small = exp(spread(float32(-2)) * size)
    bent = (one - small) / (one + small)
    zero = spread(float32(0))
    bent = between(zero, number, number, bent, zero - bent)
    square = number * number  # near 0 the difference above has few digits
    series = spread(float32(-17 / 315))
    series = fma(series, square, spread(float32(2 / 15)))
    series = fma(series, square, spread(float32(-1 / 3)))
    series = fma(series * square, number, number)
    return between(zero, size, spread(float32(0.1)), series, bent)


@njit(nogil=True)
def capped(scores, cap):
    """Return scores bent so that none is beyond a cap."""
    return spread(cap) * tanh(scores / spread(cap))
