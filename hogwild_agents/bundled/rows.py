"""From traces to tensors: all the blocks of a run in one row, with the positions of every view.

A row is ``[prompt, PAST, OTHERS, OPEN, OWN, role 1, ..., worker 1, worker 2, ...]``; the part
before worker 1 is called *fixed*, the rest *work*; roles are padded to one length, and workers too.
For each token of the work the row says where everything in its view stands, relative to the token,
at the tick in which it was fed. As in the runtime, a token is computed once, in its author's view
at its tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import torch
from torch import Tensor

from hogwild_agents.bundled import tokenizer as words
from hogwild_agents.bundled.traces import NEVER, Step, Trace, encode

HEADERS = 4  # PAST, OTHERS, OPEN, OWN: one token each, every one prefilled alone
_UNSEEN = 2 * NEVER


@dataclass
class Batch:
    """``B`` traces of ``W`` workers of up to ``L`` tokens; ``T = W * L``, ``F = P + 4 + W * R``.

    Offsets are relative: position of the token in its view less position of the other thing.
    """

    tokens: Tensor  # [B, F + T] int64
    targets: Tensor  # [B, T] int64, -1 where nothing was sampled
    weights: Tensor  # [B, T] float32, of the targets in the loss
    prompt_lengths: Tensor  # [B] int64
    role_lengths: Tensor  # [B, W] int64, 0 without a role
    history: Tensor  # [B, T] int64: where the token stands as a key once its step is finished
    position: Tensor  # [B, T] int64: view position of the token as a query
    shift: Tensor  # [B, T] int64: length of the worker's role, by which the history is moved
    local: Tensor  # [B, T] int64: position in its own block
    offsets: Tensor  # [B, T, W] int64: to the start of each worker's block in the view
    header_offsets: Tensor  # [B, T, 3 + W] int64: to PAST, OTHERS, OWN, and OPEN of each worker
    header_seen: Tensor  # [B, T, 3 + W] bool
    see_history: Tensor  # [B, T, T] bool, query by key: the key is seen at its history position
    see_block: Tensor  # [B, T, T] bool: the key is seen in its block
    fix_rows: Tensor  # [N, 2] int64: closing tokens that see steps which close in the same tick
    fix_offsets: Tensor  # [N] int64: what their own step's length takes off those positions
    fix_seen: Tensor  # [N, T] bool: the keys concerned
    role_size: int  # R

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``B, P, W, L``."""
        batch, time = self.targets.shape
        workers = self.offsets.shape[2]
        prompt = self.tokens.shape[1] - time - HEADERS - workers * self.role_size
        return batch, prompt, workers, time // workers

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]


@dataclass
class Row:
    """One trace, worker by worker; inner lists run over the tokens of a worker."""

    prompt: list[int]
    roles: list[list[int]]
    workers: list[_Column]
    fixes: list[tuple[int, int, int]]  # worker, index, length of its own closing step


@dataclass
class _Column:
    """The tokens of one worker. ``see`` says which workers' blocks are in the view."""

    tokens: list[int]
    targets: list[int]
    weights: list[float]
    ticks: list[int]
    closed: list[int]
    blocks: list[int]
    local: list[int]
    history: list[int]
    position: list[int]
    shift: list[int]
    offsets: list[list[int]]
    see: list[list[bool]]
    header_offsets: list[list[int]]
    header_seen: list[list[bool]]


@dataclass
class _View:
    """Where blocks (by worker) and headers (PAST, OTHERS, OWN, OPENs) begin, and which are seen."""

    blocks: list[int]
    seen: list[bool]
    headers: list[int]
    headers_seen: list[bool]


class _Views:
    """Where the things stand in the views of one trace."""

    def __init__(self, trace: Trace) -> None:
        scenario = trace.scenario
        self.layout = scenario.layout
        self.opens = scenario.opens
        self.team = len(scenario.names)
        self.roles = [list(encode(role)) if role else [] for role in scenario.roles]
        self.past_at = len(trace.prompt)
        self.after_prompt = len(trace.prompt) + int(self.layout.has_history)
        self.moved = self._place_history(trace.steps) if self.layout.has_history else {}
        self.history_length = self._history_lengths(trace)
        self.lengths = [self._block_lengths(trace, worker) for worker in range(self.team)]
        self.begins = [
            min((s.ticks[0] for s in trace.steps if s.worker == w), default=NEVER)
            for w in range(self.team)
        ]

    def _place_history(self, steps: list[Step]) -> dict[int, int]:
        """The start of every finished step (by id) in the views."""
        finished = [step for step in steps if step.closed < NEVER]
        finished.sort(key=lambda step: (step.closed, step.worker))
        starts = accumulate((len(s.tokens) for s in finished), initial=self.after_prompt)
        return {id(step): start for step, start in zip(finished, starts, strict=False)}

    def _history_lengths(self, trace: Trace) -> list[int]:
        """The length of the history by tick."""
        added = [0] * (trace.ticks + 2)
        if self.layout.has_history:
            for step in trace.steps:
                if step.closed <= trace.ticks:
                    added[step.closed] += len(step.tokens)
        return list(accumulate(added))

    def _block_lengths(self, trace: Trace, worker: int) -> list[int]:
        """The length of the worker's unfinished step, or of its whole text, by tick."""
        added = [0] * (trace.ticks + 2)
        for step in trace.steps:
            if step.worker == worker:
                for tick in step.ticks:
                    added[tick] += 1
                if self.layout.has_history and step.closed <= trace.ticks:
                    added[step.closed] -= len(step.tokens)
        return list(accumulate(added))

    def at(self, worker: int, tick: int, closing: int) -> _View:
        """What the worker sees; ``closing`` is the length of the own block if it ends, else 0."""
        role = len(self.roles[worker])
        at = self.after_prompt + role + self.history_length[tick] - closing
        shown = [
            other != worker
            and self.layout.shows_unfinished
            and self.begins[other] <= tick
            and self.opens[worker][other] <= tick
            for other in range(self.team)
        ]
        others_at = at
        at += any(shown)
        starts, opens = [0] * self.team, [0] * self.team
        for other in range(self.team):
            if shown[other]:
                starts[other] = at
                opens[other] = at + self.lengths[other][tick]
                at = opens[other] + 1
        starts[worker] = at + 1
        headers = [self.past_at + role, others_at, at, *opens]
        headers_seen = [self.layout.has_history, any(shown), True, *shown]
        return _View(starts, shown, headers, headers_seen)


def make_row(trace: Trace) -> Row:
    """Work out the views of a trace."""
    views = _Views(trace)
    history = trace.scenario.layout.has_history
    columns = [_Column(*([] for _ in fields(_Column))) for _ in range(views.team)]
    closings: dict[int, list[int]] = {}
    for step in trace.steps:
        closings.setdefault(step.closed, []).append(step.worker)
    fixes = []
    cache: dict[tuple[int, int, int], _View] = {}
    for number, step in enumerate(trace.steps):
        column = columns[step.worker]
        moves = history and step.closed < NEVER
        base = 0 if history else len(column.tokens)
        placed = views.moved.get(id(step), 0)
        column.tokens += step.tokens
        column.targets += step.targets
        column.weights += step.weights
        column.ticks += step.ticks
        column.closed += [step.closed if moves else NEVER] * len(step.tokens)
        column.blocks += [number if history else step.worker] * len(step.tokens)
        for index, tick in enumerate(step.ticks):
            closing = len(step.tokens) if moves and index == len(step.tokens) - 1 else 0
            key = (step.worker, tick, closing)
            view = cache.get(key) or cache.setdefault(key, views.at(*key))
            position = view.blocks[step.worker] + base + index
            column.local.append(base + index)
            column.history.append(placed + index)
            column.position.append(position)
            column.shift.append(len(views.roles[step.worker]))
            column.offsets.append([position - start for start in view.blocks])
            column.see.append(view.seen)
            column.header_offsets.append([position - start for start in view.headers])
            column.header_seen.append(view.headers_seen)
            if closing and any(other > step.worker for other in closings[step.closed]):
                fixes.append((step.worker, len(column.local) - 1, closing))
    return Row(trace.prompt, views.roles, columns, fixes)


def collate(rows: Sequence[Row], prompt: int = 0, length: int = 0) -> Batch:
    """Pad rows of equally many workers (to at least the given prompt and worker lengths)."""
    workers = len(rows[0].workers)
    prompt = max(prompt, *(len(row.prompt) for row in rows))
    length = max(length, *(len(column.tokens) for row in rows for column in row.workers))

    def flat(name: str, fill: object) -> Tensor:
        """One field of the columns, padded."""
        lists = []
        for row in rows:
            whole: list[object] = []
            for column in row.workers:
                values = getattr(column, name)
                whole += values
                whole += [fill] * (length - len(values))
            lists.append(whole)
        return torch.tensor(lists)

    def padded(tokens: list[int], size: int) -> list[int]:
        return tokens + [pad] * (size - len(tokens))

    headers = [encode(text)[0] for text in (words.PAST, words.OTHERS, words.OPEN, words.OWN)]
    pad = encode(words.PAD)[0]
    role_lengths = torch.tensor([[len(role) for role in row.roles] for row in rows])
    role_size = int(role_lengths.max())
    fixed = []
    for row in rows:
        roles = [token for role in row.roles for token in padded(role, role_size)]
        fixed.append(padded(row.prompt, prompt) + headers + roles)
    ticks = flat("ticks", 0)
    key_ticks = ticks.masked_fill(ticks == 0, _UNSEEN)
    closed, blocks, local = flat("closed", _UNSEEN), flat("blocks", -1), flat("local", 0)
    same_block = (blocks[:, :, None] == blocks[:, None, :]) & (blocks >= 0)[:, None, :]
    see_history = (closed[:, None, :] <= ticks[:, :, None]) & ~same_block
    fed = (key_ticks[:, None, :] <= ticks[:, :, None]) & (ticks[:, :, None] < closed[:, None, :])
    shown = flat("see", [False] * workers).repeat_interleave(length, dim=2)
    causal = same_block & (local[:, None, :] <= local[:, :, None])
    fix_rows, fix_offsets, fix_seen = [], [], []
    for index, row in enumerate(rows):
        for worker, token, size in row.fixes:
            at = worker * length + token
            later = torch.arange(workers * length) >= (worker + 1) * length
            fix_rows.append((index, at))
            fix_offsets.append(size)
            fix_seen.append((closed[index] == ticks[index, at]) & later)
    return Batch(
        tokens=torch.cat([torch.tensor(fixed), flat("tokens", pad)], dim=1),
        targets=flat("targets", -1),
        weights=flat("weights", 0.0),
        prompt_lengths=torch.tensor([len(row.prompt) for row in rows]),
        role_lengths=role_lengths,
        history=flat("history", 0),
        position=flat("position", 0),
        shift=flat("shift", 0),
        local=local,
        offsets=flat("offsets", [0] * workers),
        header_offsets=flat("header_offsets", [0] * (3 + workers)),
        header_seen=flat("header_seen", [False] * (3 + workers)),
        see_history=see_history,
        see_block=(fed & shown) | causal,
        fix_rows=torch.tensor(fix_rows, dtype=torch.int64).reshape(-1, 2),
        fix_offsets=torch.tensor(fix_offsets, dtype=torch.int64),
        fix_seen=torch.stack(fix_seen) if fix_seen else torch.zeros(0, workers * length).bool(),
        role_size=role_size,
    )
