"""CPU attention: the compiled kernel for one layer: store new keys, attend to blocks, merge.

It does what the kernels for GPUs do (``gpu_attention.py``), by the same tables of a
:class:`~hogwild_agents.engine.schedule.Schedule`. The queries that read a stretch stand side by
side in vectors, *lanes*, over all tokens that see it and the heads of a group: each key is
widened to float32 once, and multiplied with a whole register of queries at a time. Where they are
too few to fill one, each has products of its own instead (``cpu_dots.py``).

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic
from numba.types import float32, float64, int64, void
from torch import Tensor

from hogwild_agents.engine.cpu_dots import TILE, see
from hogwild_agents.engine.vectors import (
    VECTOR,
    WIDTH,
    any_above,
    between,
    build_blocks,
    build_load,
    build_spread,
    call,
    capped,
    copy,
    exp,
    floats,
    fma,
    get,
    integers,
    is_float32,
    load,
    maximum,
    pointer,
    put,
    shifted,
    spread,
    store,
    take,
)

STORE, ATTEND, MERGE = 1, 2, 4
"""What is done for a layer, in this order."""
PANEL = 4 * WIDTH
"""Lanes that are multiplied together, at most: four vectors."""
FEW = WIDTH - 1
"""Of so many queries of a stretch, or fewer, each has products of its own: less than a vector."""
_NEVER = float32(-math.inf)


class Layer(NamedTuple):
    """What the kernel is told of one layer, in its order; a tensor stands for its address.

    Attributes:
        items, ends, rows, partials, partial_ends: tables, as a ``Layout`` tells of them.
        slots, addresses: where tokens are stored; where the layer's slabs lie.
        queries, query_head, query_token: [heads, T, key_dim], by strides; so for keys and values.
        cosines, sines: [angles, pairs] float32.
        outs, lses: room for partial results, [kv_heads, room, group, value_dim in whole vectors]
            and without the last dimension, float32.
        sinks: [heads] float32, or 0.
        key_dim, value_dim, group: of a head; how many heads share keys.
        room: of partial results.
        tokens, kv_heads, programs: how many there are.
        start, pairs, neighbours: the first dimension that turns, how many pairs do, and which.
        result: [T, heads, value_dim].
        factors: two float64: the factor of the scores, and the cap that bends them or 0.
        phases: what is to be done: STORE, ATTEND, MERGE, added up.
        few: up to so many queries of an item have products of their own.
    """

    items: int
    ends: int
    rows: int
    partials: int
    partial_ends: int
    slots: int
    addresses: int
    queries: int | Tensor
    query_head: int
    query_token: int
    keys: int | Tensor
    key_head: int
    key_token: int
    values: int | Tensor
    value_head: int
    value_token: int
    cosines: int | Tensor
    sines: int | Tensor
    outs: int | Tensor
    lses: int | Tensor
    sinks: int | Tensor
    key_dim: int
    value_dim: int
    group: int
    room: int
    tokens: int
    kv_heads: int
    programs: int
    start: int
    pairs: int
    neighbours: int
    result: int | Tensor
    factors: int | Tensor
    phases: int
    few: int


class Room(NamedTuple):
    """What a thread has for itself, float32, see :func:`_room`."""

    queries: Any
    outs: Any
    keys: Any
    values: Any
    scores: Any
    tops: Any
    totals: Any
    lows: Any
    highs: Any
    query: Any


def place_for(key_dim: int, value_dim: int, lanes: int) -> int:
    """Return the bytes that a thread needs for items of at most so many lanes."""
    lanes = padded(lanes)
    states = (key_dim + value_dim) * (lanes + TILE)
    return 4 * (states + TILE * PANEL + 4 * lanes + padded(max(key_dim, value_dim)))


def padded(count: int) -> int:
    """Return how many numbers whole vectors have that hold so many."""
    return -(-count // WIDTH) * WIDTH


_padded = njit(nogil=True)(padded)


@intrinsic(prefer_literal=True)
def _panel(
    context,
    left,
    left_row,
    left_step,
    rows,
    steps,
    right,
    right_step,
    sums,
    sum_step,
    several,
    vectors,
    fresh,
):
    """Multiply matrices: sums[row] (+)= the sum over steps of left[row, step] * right[step].

    Args:
        left: float32 pointer; rows follow by ``left_row`` elements, steps by ``left_step``.
        rows, steps: how many.
        right: float32 pointer to the vectors of the first step; others follow by ``right_step``.
        sums: float32 pointer to those of the first row; others follow by ``sum_step``.
        several, vectors, fresh: literal integers: rows whose sums are held in registers, the
            vectors of each, and whether what the sums were does not count.
    """
    width, starts_anew = vectors.literal_value, bool(fresh.literal_value)

    def build(context, builder, signature, args):
        left, left_row, left_step, rows, steps, right, right_step, sums, sum_step = args[:9]
        number = ir.IntType(64)

        def numbers(base, at):
            return build_load(context, builder, base, at, float32)

        def block(first, many):
            """Build the loop over the steps for so many rows."""
            shape = [(row, vector) for row in range(many) for vector in range(width)]
            held = {at: cgutils.alloca_once(builder, VECTOR) for at in shape}
            lines, tos = {}, {}
            for row in range(many):
                index = builder.add(first, number(row))
                lines[row] = builder.gep(left, [builder.mul(index, left_row)])
                tos[row] = builder.mul(index, sum_step)
            for (row, vector), place in held.items():
                at = builder.add(tos[row], number(vector * WIDTH))
                builder.store(VECTOR(None) if starts_anew else numbers(sums, at), place)
            with cgutils.for_range(builder, steps) as loop:
                there = builder.mul(loop.index, right_step)
                beside = [
                    numbers(right, builder.add(there, number(vector * WIDTH)))
                    for vector in range(width)
                ]
                step = builder.mul(loop.index, left_step)
                for row in range(many):
                    factor = build_spread(builder, builder.load(builder.gep(lines[row], [step])))
                    for vector in range(width):
                        place = held[row, vector]
                        sum = builder.load(place)
                        builder.store(call(builder, "fma", factor, beside[vector], sum), place)
            for (row, vector), place in held.items():
                at = builder.add(tos[row], number(vector * WIDTH))
                to = builder.bitcast(builder.gep(sums, [at]), VECTOR.as_pointer())
                builder.store(builder.load(place), to, align=4)

        build_blocks(builder, rows, several.literal_value, 1, block)
        return context.get_dummy_value()

    given = left, int64, int64, int64, int64, right, int64, sums, int64, several, vectors, fresh
    return void(*given), build


@njit(nogil=True, error_model="numpy")
def _scores(keys, dim, slots, queries, scores, vectors):
    """Multiply keys [slots, dim] with queries [dim, lanes]: scores [slots, lanes]."""
    if vectors == 1:
        _panel(keys, dim, 1, slots, dim, queries, WIDTH, scores, WIDTH, 8, 1, 1)
    elif vectors == 2:
        _panel(keys, dim, 1, slots, dim, queries, 2 * WIDTH, scores, 2 * WIDTH, 4, 2, 1)
    elif vectors == 3:
        _panel(keys, dim, 1, slots, dim, queries, 3 * WIDTH, scores, 3 * WIDTH, 4, 3, 1)
    else:
        _panel(keys, dim, 1, slots, dim, queries, 4 * WIDTH, scores, 4 * WIDTH, 2, 4, 1)


@njit(nogil=True, error_model="numpy")
def _add_values(values, dim, slots, weights, outs, vectors):
    """Add values [slots, dim], weighted [slots, lanes], to outs [dim, lanes]."""
    if vectors == 1:
        _panel(values, 1, dim, dim, slots, weights, WIDTH, outs, WIDTH, 8, 1, 0)
    elif vectors == 2:
        _panel(values, 1, dim, dim, slots, weights, 2 * WIDTH, outs, 2 * WIDTH, 4, 2, 0)
    elif vectors == 3:
        _panel(values, 1, dim, dim, slots, weights, 3 * WIDTH, outs, 3 * WIDTH, 4, 3, 0)
    else:
        _panel(values, 1, dim, dim, slots, weights, 4 * WIDTH, outs, 4 * WIDTH, 2, 4, 0)


@njit(nogil=True, error_model="numpy")
def _turn(query, layer, cosines, sines, scale, to):
    """Write one query [key_dim], rotated and scaled, in float32."""
    start, pairs = layer.start, layer.pairs
    factor = spread(scale)
    copy(query, to, layer.key_dim)
    for at in range(0, layer.key_dim, WIDTH):
        store(to, at, load(to, at) * factor)
    whole = 0 if layer.neighbours else pairs - pairs % WIDTH  # pairs that vectors can hold
    for pair in range(0, whole, WIDTH):
        low, high = load(to, start + pair), load(to, start + pairs + pair)
        cos, sin = load(cosines, pair), load(sines, pair)
        store(to, start + pair, low * cos - high * sin)
        store(to, start + pairs + pair, high * cos + low * sin)
    for pair in range(whole, pairs):
        first = start + (2 * pair if layer.neighbours else pair)
        second = first + (1 if layer.neighbours else pairs)
        low, high = get(to, first), get(to, second)
        cos, sin = get(cosines, pair), get(sines, pair)
        put(to, first, low * cos - high * sin)
        put(to, second, high * cos + low * sin)


@njit(nogil=True, error_model="numpy")
def _weigh(scores, step, slots, start, lows, highs, open, cap, tops, totals, outs, value_dim):
    """Turn one vector of scores [slots, lanes] into weights, and rescale what was added up.

    Args:
        step: lanes of a panel, from slot to slot.
        start: the number of the first slot, counted as ``lows`` and ``highs`` are.
        open: whether every lane sees every slot.
        cap: bends the scores, if it is not 0.
    """
    top, low, high = load(tops, 0), load(lows, 0), load(highs, 0)
    highest = top
    for slot in range(slots):
        score = load(scores, slot * step)
        if cap != float32(0):
            score = capped(score, cap)
            store(scores, slot * step, score)
        if not open:
            score = between(low, spread(float32(start + slot)), high, score, spread(_NEVER))
            store(scores, slot * step, score)
        highest = maximum(highest, score)
    # A lane may see nothing yet: its scores are all -inf, and their exponentials are to be 0.
    base = maximum(highest, spread(float32(-3e38)))
    sum = load(totals, 0)
    if any_above(highest, top):
        kept = exp(top - base)
        sum = sum * kept
        for dim in range(value_dim):
            store(outs, dim * step, load(outs, dim * step) * kept)
        store(tops, 0, highest)
    for slot in range(slots):
        weight = exp(load(scores, slot * step) - base)
        store(scores, slot * step, weight)
        sum = sum + weight
    store(totals, 0, sum)


@njit(nogil=True)
def _layer(job):
    """Return what a job's integers say."""
    return Layer(
        get(job, 4),
        get(job, 5),
        get(job, 6),
        get(job, 7),
        get(job, 8),
        get(job, 9),
        get(job, 10),
        get(job, 11),
        get(job, 12),
        get(job, 13),
        get(job, 14),
        get(job, 15),
        get(job, 16),
        get(job, 17),
        get(job, 18),
        get(job, 19),
        get(job, 20),
        get(job, 21),
        get(job, 22),
        get(job, 23),
        get(job, 24),
        get(job, 25),
        get(job, 26),
        get(job, 27),
        get(job, 28),
        get(job, 29),
        get(job, 30),
        get(job, 31),
        get(job, 32),
        get(job, 33),
        get(job, 34),
        get(job, 35),
        get(job, 36),
        get(job, 37),
        get(job, 38),
    )


@njit(nogil=True, error_model="numpy")
def _room(start, layer, lanes):
    """Part what a thread has for itself, for so many lanes, whole vectors of them.

    Queries and outs lie panel after panel: [key_dim or value_dim, lanes of the panel] each; or,
    where they are few, line after line.
    """
    outs = shifted(start, layer.key_dim * lanes)
    keys = shifted(outs, layer.value_dim * lanes)
    values = shifted(keys, layer.key_dim * TILE)
    scores = shifted(values, layer.value_dim * TILE)
    tops = shifted(scores, TILE * PANEL)
    totals, lows = shifted(tops, lanes), shifted(tops, 2 * lanes)
    highs, query = shifted(tops, 3 * lanes), shifted(tops, 4 * lanes)
    return Room(start, outs, keys, values, scores, tops, totals, lows, highs, query)


@njit(nogil=True, error_model="numpy")
def _clear(layer, room, lanes, few):
    """Begin with nothing in all lanes; those without a query see the first slot, with a zero."""
    for at in range(0, lanes, WIDTH):
        store(room.tops, at, spread(_NEVER))
        store(room.totals, at, spread(float32(0)))
        store(room.lows, at, spread(float32(0)))
        store(room.highs, at, spread(float32(0)))
    for at in range(0, lanes * layer.value_dim, WIDTH):
        store(room.outs, at, spread(float32(0)))
    first, step = _panel_of(lanes - 1, lanes)
    for dim in range(0 if few else layer.key_dim):
        last = first * layer.key_dim + (dim + 1) * step - WIDTH
        store(room.queries, last, spread(float32(0)))


@njit(nogil=True, error_model="numpy")
def _panel_of(lane, lanes):
    """Return the first lane of the panel in which one lies, and how many the panel has."""
    first = lane - lane % PANEL
    return first, min(PANEL, lanes - first)


@njit(nogil=True, error_model="numpy")
def _place_of(lane, lanes, few, dim):
    """Return where the numbers of one query lie, [dim]: the first, and the step to the next."""
    first, step = _panel_of(lane, lanes)
    return (lane * dim, 1) if few else (first * dim + lane - first, step)


@njit(nogil=True, error_model="numpy")
def _take_queries(layer, element, head, room, rows, count, start, lanes, few):
    """Lay an item's queries out in lanes, turned and scaled, and what each sees.

    Returns:
        The last of the first slots that they see, and the first of the last ones, counted from
        ``start``.
    """
    queries = pointer(layer.queries, element)
    cosines, sines = pointer(layer.cosines, float32), pointer(layer.sines, float32)
    factors = pointer(layer.factors, float64)
    latest, earliest = 0, 1 << 62
    for number in range(count):
        token, angle = get(rows, 4 * number), get(rows, 4 * number + 1)
        low, high = max(0, get(rows, 4 * number + 2) - start), get(rows, 4 * number + 3) - start
        latest, earliest = max(latest, low), min(earliest, high)
        for member in range(layer.group):
            lane = number * layer.group + member
            put(room.lows, lane, float32(low))
            put(room.highs, lane, float32(high))
            place = (head * layer.group + member) * layer.query_head + token * layer.query_token
            _turn(
                shifted(queries, place),
                layer,
                shifted(cosines, angle * layer.pairs),
                shifted(sines, angle * layer.pairs),
                float32(get(factors, 0)),
                room.query,
            )
            to, step = _place_of(lane, lanes, few, layer.key_dim)
            for dim in range(layer.key_dim):
                put(room.queries, to + dim * step, get(room.query, dim))
    return latest, earliest


@njit(nogil=True, error_model="numpy")
def _read(layer, room, keys, values, done, slots, open, lanes, cap):
    """Let all lanes see a tile of keys [slots, key_dim] and values [slots, value_dim]."""
    for lane in range(0, lanes, PANEL):
        _, step = _panel_of(lane, lanes)
        queries = shifted(room.queries, lane * layer.key_dim)
        outs = shifted(room.outs, lane * layer.value_dim)
        _scores(keys, layer.key_dim, slots, queries, room.scores, step // WIDTH)
        for at in range(0, step, WIDTH):
            _weigh(
                shifted(room.scores, at),
                step,
                slots,
                done,
                shifted(room.lows, lane + at),
                shifted(room.highs, lane + at),
                open,
                cap,
                shifted(room.tops, lane + at),
                shifted(room.totals, lane + at),
                shifted(outs, at),
                layer.value_dim,
            )
        _add_values(values, layer.value_dim, slots, room.scores, outs, step // WIDTH)


@njit(nogil=True, error_model="numpy")
def _give_results(layer, head, room, partial, count, lanes, few):
    """Write the partial results of an item, from ``partial`` on."""
    outs, lses = pointer(layer.outs, float32), pointer(layer.lses, float32)
    for lane in range(count * layer.group):
        place = (head * layer.room + partial) * layer.group + lane
        sum = get(room.totals, lane)
        part = float32(0) if sum == float32(0) else float32(1) / sum
        lse = _NEVER if sum == float32(0) else get(room.tops, lane) + math.log(sum)
        put(lses, place, lse)
        source, step = _place_of(lane, lanes, few, layer.value_dim)
        for dim in range(layer.value_dim):
            number = get(room.outs, source + dim * step) * part
            put(outs, place * _padded(layer.value_dim) + dim, number)


@njit(nogil=True, error_model="numpy")
def _attend(layer, element, head, item, start_of_room):
    """Attend with the queries of an item, over the heads of one group, to the item's slots."""
    slab, size, start, stop = get(item, 0), get(item, 1), get(item, 2), get(item, 3)
    row, count, partial = get(item, 4), get(item, 5), get(item, 6)
    lanes = _padded(count * layer.group)
    room = _room(start_of_room, layer, lanes)
    whole = layer.key_dim % WIDTH == 0 and layer.value_dim % WIDTH == 0
    few = whole and count * layer.group <= layer.few
    _clear(layer, room, lanes, few)
    rows = shifted(pointer(layer.rows, int64), 4 * row)
    latest, earliest = _take_queries(layer, element, head, room, rows, count, start, lanes, few)
    cap = float32(get(pointer(layer.factors, float64), 1))
    addresses = pointer(layer.addresses, int64)
    keys = pointer(get(addresses, 2 * slab), element)
    values = pointer(get(addresses, 2 * slab + 1), element)
    for done in range(0, stop - start, TILE):
        slots = min(TILE, stop - start - done)
        slot = head * size + start + done
        key, value = shifted(keys, slot * layer.key_dim), shifted(values, slot * layer.value_dim)
        open = latest <= done and done + slots - 1 <= earliest
        if few:
            tile = key, layer.key_dim, value, layer.value_dim
            see(room, count * layer.group, *tile, done, slots, open, cap)
            continue
        wide_key = _widened(key, layer.key_dim * slots, room.keys)
        wide_value = _widened(value, layer.value_dim * slots, room.values)
        _read(layer, room, wide_key, wide_value, done, slots, open, lanes, cap)
    _give_results(layer, head, room, partial, count, lanes, few)


@njit(nogil=True, error_model="numpy")
def _widened(states, count, to):
    """Return a float32 pointer to so many numbers: themselves, or a copy."""
    if is_float32(states):
        return floats(states)
    copy(states, to, count)
    return to


@njit(nogil=True, error_model="numpy")
def _store_new(layer, element, head, first, last):
    """Copy the keys and values of one head's new tokens ``first`` to ``last`` to their slots."""
    slots, addresses = pointer(layer.slots, int64), pointer(layer.addresses, int64)
    keys, values = pointer(layer.keys, element), pointer(layer.values, element)
    for token in range(first, last):
        slab, size = get(slots, 3 * token), get(slots, 3 * token + 1)
        slot = head * size + get(slots, 3 * token + 2)
        key = shifted(keys, head * layer.key_head + token * layer.key_token)
        value = shifted(values, head * layer.value_head + token * layer.value_token)
        to = shifted(pointer(get(addresses, 2 * slab), element), slot * layer.key_dim)
        copy(key, to, layer.key_dim)
        to = shifted(pointer(get(addresses, 2 * slab + 1), element), slot * layer.value_dim)
        copy(value, to, layer.value_dim)


@njit(nogil=True, error_model="numpy")
def _merge(layer, element, head, token, start_of_room):
    """Join the partial results of a token into one softmax, for each head of a group."""
    numbers, ends = pointer(layer.partials, int64), pointer(layer.partial_ends, int64)
    lses = shifted(pointer(layer.lses, float32), head * layer.room * layer.group)
    begin, end = get(ends, token), get(ends, token + 1)
    width = _padded(layer.value_dim)
    outs = shifted(pointer(layer.outs, float32), head * layer.room * layer.group * width)
    result = pointer(layer.result, element)
    merged = _room(start_of_room, layer, 0).query
    for member in range(layer.group):
        top, total = _NEVER, float32(0)
        if layer.sinks:  # takes its share of the softmax and gives nothing
            top = get(pointer(layer.sinks, float32), head * layer.group + member)
            total = float32(1)
        for at in range(begin, end):
            lse = get(lses, get(numbers, at) * layer.group + member)
            if lse == _NEVER:  # it saw nothing
                continue
            if lse > top:
                total *= math.exp(top - lse)
                top = lse
            total += math.exp(lse - top)
        to = ((token * layer.kv_heads + head) * layer.group + member) * layer.value_dim
        for dim in range(0, width, WIDTH):
            store(merged, dim, spread(float32(0)))
        for at in range(begin, end):
            place = get(numbers, at) * layer.group + member
            weight = spread(math.exp(get(lses, place) - top) / total)
            out = shifted(outs, place * width)
            for dim in range(0, width, WIDTH):
                store(merged, dim, fma(weight, load(out, dim), load(merged, dim)))
        copy(merged, shifted(result, to), layer.value_dim)


@njit(nogil=True, error_model="numpy")
def _attention(job, element):
    """Do a layer's attention, or some of it, together with other threads.

    Args:
        job: pointer to its integers: those of the threads, then a :class:`Layer`.
        element: type of keys, values, queries and results.
    """
    layer = _layer(job)
    room = pointer(get(job, 2) + take(shifted(job, 1)) * get(job, 3), float32)
    items, ends = pointer(layer.items, int64), pointer(layer.ends, int64)
    while True:
        unit = take(job)
        head, program = unit % layer.kv_heads, unit // layer.kv_heads
        if program >= layer.programs:
            break
        first = layer.tokens * program // layer.programs
        last = layer.tokens * (program + 1) // layer.programs
        if layer.phases & STORE:
            _store_new(layer, element, head, first, last)
        if layer.phases & ATTEND:
            for item in range(get(ends, program), get(ends, program + 1)):
                _attend(layer, element, head, shifted(items, 8 * item), room)
        if layer.phases & MERGE:
            for token in range(first, last):
                _merge(layer, element, head, token, room)


def attention(element: Any, sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled for keys and values of a type.

    Args:
        element: float32, BFLOAT16 or FLOAT16.
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(job):
        if sources:
            _attention(integers(job), element)

    return run
