"""A slow, explicit account of what a token sees, written from the definition alone.

Tokens are computed tick by tick. For each one the view is laid out as a list of (block, index)
pairs, every key is rotated to its place, and one softmax runs over them. Weights are taken from
the state dict by their transformers names; nothing is shared with the training code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hogwild_agents.bundled import tokenizer as words
from hogwild_agents.bundled.traces import Layout, Step, Trace, encode

Entry = tuple[list[Tensor], list[Tensor]]  # unrotated keys and values of one token, by layer


class Reference:
    """Computes the logits of all tokens of a trace."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.layers = 1 + max(int(k.split(".")[2]) for k in weights if "layers." in k)

    def run(self, trace: Trace) -> dict[tuple[int, int], Tensor]:
        """Logits by (number of the step, index in the step)."""
        self.prompt = self._prefill(tuple(trace.prompt))
        self.roles = [
            self._prefill(encode(role) if role else (), self.prompt)
            for role in trace.scenario.roles
        ]
        self.headers = {
            text: self._prefill(encode(text))
            for text in (words.PAST, words.OTHERS, words.OWN, words.OPEN)
        }
        self.trace = trace
        written: dict[int, list[Entry]] = {id(step): [] for step in trace.steps}
        logits = {}
        for tick in range(1, trace.ticks + 1):
            fed = [
                (number, step, index)
                for number, step in enumerate(trace.steps)
                for index, at in enumerate(step.ticks)
                if at == tick
            ]
            for entry, out in zip(fed, self._tick(fed, tick, written), strict=True):
                logits[entry[0], entry[2]] = out
        return logits

    def _tick(
        self, fed: list[tuple[int, Step, int]], tick: int, written: dict[int, list[Entry]]
    ) -> list[Tensor]:
        """All tokens of a tick, layer by layer: first everybody's keys, then attention."""
        states = [self.weights["model.embed_tokens.weight"][s.tokens[i]] for _, s, i in fed]
        for _, step, _ in fed:
            written[id(step)].append(([], []))
        for layer in range(self.layers):
            queries = []
            for state, (_, step, index) in zip(states, fed, strict=True):
                q, k, v = self._project(layer, state)
                queries.append(q)
                written[id(step)][index][0].append(k)
                written[id(step)][index][1].append(v)
            for at, (_, step, index) in enumerate(fed):
                view = self._view(step, index, tick, written)
                states[at] = self._mix(layer, states[at], queries[at], view)
        return [self._head(state) for state in states]

    def _view(
        self, own: Step, index: int, tick: int, written: dict[int, list[Entry]]
    ) -> list[Entry]:
        """Everything before and including the token, in order."""
        scenario = self.trace.scenario
        layout, opens = scenario.layout, scenario.opens[own.worker]
        view = self.prompt + self.roles[own.worker]
        steps = self.trace.steps
        if layout in (Layout.COMBINED, Layout.INTERLEAVED):
            view += self.headers[words.PAST]
            done = [s for s in steps if s.closed <= tick and s is not own]
            for step in sorted(done, key=lambda s: (s.closed, s.worker)):
                view += written[id(step)]
        blocks: dict[int, list[Entry]] = {}
        for step in steps:
            moved = layout in (Layout.COMBINED, Layout.INTERLEAVED) and step.closed <= tick
            if step.ticks[0] <= tick and not moved:
                blocks.setdefault(step.worker, []).extend(written[id(step)])
        if layout in (Layout.COMBINED, Layout.CONTIGUOUS):
            others = [w for w in sorted(blocks) if w != own.worker and opens[w] <= tick]
            if others:
                view += self.headers[words.OTHERS]
            for worker in others:
                view += blocks[worker]
                view += self.headers[words.OPEN]
        view += self.headers[words.OWN]
        if layout in (Layout.CONTIGUOUS, Layout.ISOLATED):
            for step in steps:
                if step is own:
                    break
                if step.worker == own.worker:
                    view += written[id(step)]
        view += written[id(own)][: index + 1]
        return view

    def _prefill(self, tokens: tuple[int, ...], before: Sequence[Entry] = ()) -> list[Entry]:
        entries = list(before)
        for token in tokens:
            state = self.weights["model.embed_tokens.weight"][token]
            entries.append(([], []))
            for layer in range(self.layers):
                q, k, v = self._project(layer, state)
                entries[-1][0].append(k)
                entries[-1][1].append(v)
                state = self._mix(layer, state, q, list(entries))
        return entries[len(before) :]

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x * scale * self.weights[f"{name}.weight"]

    def _project(self, layer: int, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        name = f"model.layers.{layer}"
        x = self._norm(f"{name}.input_layernorm", state)
        q, k, v = (
            (self.weights[f"{name}.self_attn.{part}_proj.weight"] @ x).view(-1, 32)
            for part in "qkv"
        )
        q = self._norm(f"{name}.self_attn.q_norm", q)
        return q, self._norm(f"{name}.self_attn.k_norm", k), v

    def _mix(self, layer: int, state: Tensor, query: Tensor, view: list[Entry]) -> Tensor:
        name = f"model.layers.{layer}"
        places = torch.arange(len(view))[:, None, None]
        keys = _turn(torch.stack([keys[layer] for keys, _ in view]), places)
        values = torch.stack([values[layer] for _, values in view])  # [n, groups, d]
        query = _turn(query, places[-1])  # [heads, d]
        share = query.shape[0] // keys.shape[1]
        heads = []
        for head in range(query.shape[0]):
            scores = keys[:, head // share] @ query[head] / 32**0.5
            heads.append(scores.softmax(0) @ values[:, head // share])
        state = state + self.weights[f"{name}.self_attn.o_proj.weight"] @ torch.cat(heads)
        x = self._norm(f"{name}.post_attention_layernorm", state)
        gate = torch.nn.functional.silu(self.weights[f"{name}.mlp.gate_proj.weight"] @ x)
        up = self.weights[f"{name}.mlp.up_proj.weight"] @ x
        return state + self.weights[f"{name}.mlp.down_proj.weight"] @ (gate * up)

    def _head(self, state: Tensor) -> Tensor:
        return self.weights["model.embed_tokens.weight"] @ self._norm("model.norm", state)


def _turn(x: Tensor, position: Tensor) -> Tensor:
    angles = position / 10000 ** (torch.arange(0, 32, 2) / 32)
    cos, sin = (torch.cat([part, part], dim=-1) for part in (angles.cos(), angles.sin()))
    half = torch.cat([-x[..., 16:], x[..., :16]], dim=-1)
    return x * cos + half * sin
