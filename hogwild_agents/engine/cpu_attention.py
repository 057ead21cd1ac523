"""CPU attention: the compiled kernel for one layer: store new keys, attend to blocks, merge.

It does what the kernels for GPUs do (``gpu_attention.py``), by the same tables of a
:class:`~hogwild_agents.engine.schedule.Schedule`. The queries that read a stretch, of all tokens
that see it and the heads of a group, see it tile by tile (``cpu_tiles.py``).

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import njit
from numba.types import float32, float64, int64
from torch import Tensor

from hogwild_agents.engine import cpu_amx_attention
from hogwild_agents.engine.cpu_amx import EDGE, TILES, is_tiled, release
from hogwild_agents.engine.cpu_tiles import ROWS, TILE, see
from hogwild_agents.engine.vectors import (
    WIDTH,
    copy,
    exp,
    fma,
    get,
    integers,
    largest,
    load,
    padded,
    pointer,
    put,
    shifted,
    spread,
    store,
    take,
    total,
)

STORE, ATTEND, MERGE = 1, 2, 4
"""What is done for a layer, in this order."""
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


class Room(NamedTuple):
    """What a thread has for itself, float32, see :func:`_room`."""

    queries: Any
    outs: Any
    totals: Any
    tops: Any
    lows: Any
    highs: Any
    keys: Any
    values: Any
    scores: Any


def place_for(key_dim: int, value_dim: int, rows: int) -> int:
    """Return the bytes that a thread needs for items of at most so many rows of queries."""
    line, width = padded(key_dim), padded(value_dim)
    place = 4 * TILE * (key_dim + width + ROWS)
    if TILES:
        rows = -(-rows // EDGE) * EDGE
        place = max(place, cpu_amx_attention.place_for(key_dim, value_dim, rows))
    return 4 * (rows * (line + width + WIDTH) + 3 * padded(rows)) + place


@njit(nogil=True, error_model="numpy")
def _turn(query, layer, cosines, sines, scale, to):
    """Write one query [key_dim], rotated and scaled, in float32."""
    start, pairs = layer.start, layer.pairs
    factor = spread(scale)
    whole = layer.key_dim - layer.key_dim % WIDTH  # what vectors can hold
    for at in range(0, whole, WIDTH):
        store(to, at, load(query, at) * factor)
    for at in range(whole, layer.key_dim):
        put(to, at, get(query, at) * scale)
    whole = 0 if layer.neighbours else pairs - pairs % WIDTH
    for pair in range(0, whole, WIDTH):
        low = load(query, start + pair) * factor
        high = load(query, start + pairs + pair) * factor
        cos, sin = load(cosines, pair), load(sines, pair)
        store(to, start + pair, low * cos - high * sin)
        store(to, start + pairs + pair, high * cos + low * sin)
    for pair in range(whole, pairs):
        first = start + (2 * pair if layer.neighbours else pair)
        second = first + (1 if layer.neighbours else pairs)
        low, high = get(query, first) * scale, get(query, second) * scale
        cos, sin = get(cosines, pair), get(sines, pair)
        put(to, first, low * cos - high * sin)
        put(to, second, high * cos + low * sin)


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
    )


@njit(nogil=True, error_model="numpy")
def _room(start, layer, rows):
    """Part what a thread has for itself, for so many rows of queries.

    Queries and outs are [rows, key_dim or value_dim] in whole vectors, totals [rows, WIDTH], tops,
    lows and highs [rows], keys [key_dim, TILE], values [TILE, value_dim] in whole vectors, and
    scores [ROWS, TILE].
    """
    line, width, many = padded(layer.key_dim), padded(layer.value_dim), padded(rows)
    outs = shifted(start, line * rows)
    totals = shifted(outs, width * rows)
    tops = shifted(totals, WIDTH * rows)
    lows, highs, keys = shifted(tops, many), shifted(tops, 2 * many), shifted(tops, 3 * many)
    values = shifted(keys, layer.key_dim * TILE)
    scores = shifted(values, width * TILE)
    return Room(start, outs, totals, tops, lows, highs, keys, values, scores)


@njit(nogil=True, error_model="numpy")
def _clear(layer, room, rows):
    """Begin with nothing in all rows."""
    for row in range(rows):
        put(room.tops, row, _NEVER)
    for at in range(0, rows * WIDTH, WIDTH):
        store(room.totals, at, spread(float32(0)))
    for at in range(0, rows * padded(layer.value_dim), WIDTH):
        store(room.outs, at, spread(float32(0)))


@njit(nogil=True, error_model="numpy")
def _take_queries(layer, element, head, room, tokens, count, start):
    """Lay an item's queries out in rows, turned and scaled, and what each sees.

    Returns:
        The last of the first slots that they see, and the first of the last ones, counted from
        ``start``.
    """
    queries = pointer(layer.queries, element)
    cosines, sines = pointer(layer.cosines, float32), pointer(layer.sines, float32)
    factors = pointer(layer.factors, float64)
    latest, earliest = 0, 1 << 62
    for number in range(count):
        token, angle = get(tokens, 4 * number), get(tokens, 4 * number + 1)
        low, high = max(0, get(tokens, 4 * number + 2) - start), get(tokens, 4 * number + 3) - start
        latest, earliest = max(latest, low), min(earliest, high)
        for member in range(layer.group):
            row = number * layer.group + member
            put(room.lows, row, float32(low))
            put(room.highs, row, float32(high))
            place = (head * layer.group + member) * layer.query_head + token * layer.query_token
            _turn(
                shifted(queries, place),
                layer,
                shifted(cosines, angle * layer.pairs),
                shifted(sines, angle * layer.pairs),
                float32(get(factors, 0)),
                shifted(room.queries, row * padded(layer.key_dim)),
            )
    return latest, earliest


@njit(nogil=True, error_model="numpy")
def _give_results(layer, head, room, partial, rows):
    """Write the partial results of an item, from ``partial`` on."""
    outs, lses = pointer(layer.outs, float32), pointer(layer.lses, float32)
    width = padded(layer.value_dim)
    for row in range(rows):
        place = (head * layer.room + partial) * layer.group + row
        sum = total(load(room.totals, row * WIDTH))
        part = float32(0) if sum == float32(0) else float32(1) / sum
        lse = _NEVER if sum == float32(0) else get(room.tops, row) + math.log(sum)
        put(lses, place, lse)
        for dim in range(0, width, WIDTH):
            out = load(room.outs, row * width + dim)
            store(outs, place * width + dim, out * spread(part))


@njit(nogil=True, error_model="numpy")
def _place(layer, element, head, item):
    """Return where the keys and the values of an item begin."""
    slab, slot = get(item, 0), head * get(item, 1) + get(item, 2)
    addresses = pointer(layer.addresses, int64)
    keys = pointer(get(addresses, 2 * slab), element)
    values = pointer(get(addresses, 2 * slab + 1), element)
    return shifted(keys, slot * layer.key_dim), shifted(values, slot * layer.value_dim)


@njit(nogil=True, error_model="numpy")
def _attend(layer, element, head, item, following, start_of_room):
    """Attend with the queries of an item, over the heads of one group, to the item's slots.

    The beginning of the item that follows is asked for when the end of this one is read.
    """
    start, stop = get(item, 2), get(item, 3)
    row, count, partial = get(item, 4), get(item, 5), get(item, 6)
    rows = count * layer.group
    keys, values = _place(layer, element, head, item)
    by_tiles = cpu_amx_attention.suits(keys, layer.key_dim, layer.value_dim)
    height = cpu_amx_attention.height_for(rows) if by_tiles else 1
    room = _room(start_of_room, layer, -(-rows // height) * height)
    _clear(layer, room, rows)
    tokens = shifted(pointer(layer.rows, int64), 4 * row)
    latest, earliest = _take_queries(layer, element, head, room, tokens, count, start)
    cap = float32(get(pointer(layer.factors, float64), 1))
    tiles = cpu_amx_attention.room_at(room.keys, layer.key_dim, layer.value_dim)
    if by_tiles:
        cpu_amx_attention.take_queries(room, tiles, rows, height, layer)
    step = cpu_amx_attention.SLOTS if by_tiles else TILE
    for done in range(0, stop - start, step):
        slots = min(step, stop - start - done)
        open = latest <= done and done + slots - 1 <= earliest
        tile = keys, layer.key_dim, values, layer.value_dim
        keys, values = shifted(keys, step * layer.key_dim), shifted(values, step * layer.value_dim)
        soon = keys, values
        if done + step >= stop - start:
            soon = _place(layer, element, head, following)
        if by_tiles:
            cpu_amx_attention.see(room, tiles, rows, height, *tile, soon, done, slots, open, cap)
        else:
            see(room, rows, *tile, soon, done, slots, open, cap)
    if by_tiles:
        cpu_amx_attention.give_outs(room, rows, layer.value_dim)
    _give_results(layer, head, room, partial, rows)


@njit(nogil=True, error_model="numpy")
def _store_new(layer, element, head, first, last):
    """Copy the keys and values of one head's new tokens to their slots, if they have any."""
    slots, addresses = pointer(layer.slots, int64), pointer(layer.addresses, int64)
    keys, values = pointer(layer.keys, element), pointer(layer.values, element)
    for token in range(first, last):
        slab, size = get(slots, 3 * token), get(slots, 3 * token + 1)
        slot = get(slots, 3 * token + 2)
        if slot < 0:
            continue
        slot += head * size
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
    width = padded(layer.value_dim)
    outs = shifted(pointer(layer.outs, float32), head * layer.room * layer.group * width)
    result = pointer(layer.result, element)
    merged = start_of_room
    for member in range(layer.group):
        sink, total = _NEVER, spread(float32(0))  # in all lanes, as weights are
        if layer.sinks:  # takes its share of the softmax and gives nothing
            sink = get(pointer(layer.sinks, float32), head * layer.group + member)
        top = sink
        for at in range(begin, end):
            top = max(top, get(lses, get(numbers, at) * layer.group + member))
        if sink != _NEVER:
            total = exp(spread(sink - top))
        for dim in range(0, width, WIDTH):
            store(merged, dim, spread(float32(0)))
        for at in range(begin, end):
            place = get(numbers, at) * layer.group + member
            lse = get(lses, place)
            if lse == _NEVER:  # it saw nothing
                continue
            weight = exp(spread(lse - top))
            total = total + weight
            out = shifted(outs, place * width)
            for dim in range(0, width, WIDTH):
                store(merged, dim, fma(weight, load(out, dim), load(merged, dim)))
        sum = largest(total)  # they are all one number; 0 where nothing is seen
        part = spread(float32(0) if sum == float32(0) else float32(1) / sum)
        for dim in range(0, width, WIDTH):
            store(merged, dim, load(merged, dim) * part)
        to = ((token * layer.kv_heads + head) * layer.group + member) * layer.value_dim
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
            end = get(ends, program + 1)
            for number in range(get(ends, program), end):
                item, following = shifted(items, 8 * number), min(number + 1, end - 1)
                _attend(layer, element, head, item, shifted(items, 8 * following), room)
        if layer.phases & MERGE:
            for token in range(first, last):
                _merge(layer, element, head, token, room)
    if is_tiled(pointer(layer.keys, element)):
        release()


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
