"""The bundled model's architecture (Qwen3), with an attention that trains on whole runs.

Parameters are named as in transformers, so the state dict loads into ``Qwen3ForCausalLM``. Keys
are rotated to their place in their own block and once more to their place in the history; a
query is rotated by its distance to the start of whatever it looks at, as the engine does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hogwild_agents.bundled.rows import HEADERS, Batch

Rotation = tuple[Tensor, Tensor]  # cos and sin, [..., head_dim / 2]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the model."""

    vocabulary: int
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    groups: int = 2
    head_dim: int = 32
    ff: int = 384
    theta: float = 10000.0
    eps: float = 1e-6


@dataclass
class Plan:
    """What all layers share: rotations and masks; ``C = P + W * R``, the prompt and the roles."""

    prompt: int
    roles: int  # W * R
    workers: int
    context_key: Rotation  # [B, 1, C, d]
    static_key: Rotation  # [B, 1, T, d]
    local_key: Rotation  # [B, 1, T, d]
    context_query: Rotation  # [B, 1, 1, T, d]
    static_query: Rotation  # [B, 1, 1, T, d], the same unless there are roles
    block_query: Rotation  # [B, 1, W, 1, T, d]
    header_query: Rotation  # [B, T, 1, 3 + W, d]
    fix_query: Rotation  # [N, 1, 1, d]
    see_role: Tensor  # [B, 1, W * R, C] bool, what the roles see
    see_context: Tensor  # [B, 1, 1, T or 1, C] bool
    see_history: Tensor  # [B, 1, 1, T, T] bool
    see_block: Tensor  # [B, 1, 1, T, T] bool
    see_headers: Tensor  # [B, T, 1, 3 + W] bool
    fix_rows: Tensor  # [N, 2]
    fix_seen: Tensor  # [N, 1, 1, T] bool


def make_plan(batch: Batch, shape: Shape) -> Plan:
    """Work out the rotations and masks of a batch."""
    size, prompt, workers, length = batch.shape
    device = batch.tokens.device
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=device)
    frequencies = 1.0 / shape.theta ** (exponents / shape.head_dim)

    def turn(positions: Tensor) -> Rotation:
        angles = positions[..., None].float() * frequencies
        return angles.cos(), angles.sin()

    positions = torch.arange(prompt, device=device).expand(size, -1)
    see_context = (positions < batch.prompt_lengths[:, None])[:, None]
    see_role = see_context
    if batch.role_size:
        index = torch.arange(batch.role_size, device=device)
        role = (batch.prompt_lengths[:, None, None] + index).expand(-1, workers, -1)
        positions = torch.cat([positions, role.flatten(1)], dim=1)
        own = torch.eye(workers, dtype=torch.bool, device=device)
        causal = (own[:, None, :, None] & (index[:, None, None] >= index)).flatten(0, 1).flatten(1)
        see_role = _join(see_context, causal.expand(size, -1, -1))
        present = (index < batch.role_lengths[..., None])[:, None] & own[..., None]
        present = present.flatten(2).repeat_interleave(length, dim=1)  # [B, T, W * R]
        see_context = _join(see_context, present)
    static = batch.position - batch.shift
    at, index = batch.fix_rows.unbind(1)
    return Plan(
        prompt=prompt,
        workers=workers,
        roles=workers * batch.role_size,
        context_key=turn(positions[:, None]),
        static_key=turn(batch.history[:, None]),
        local_key=turn(batch.local[:, None]),
        context_query=turn(batch.position[:, None, None]),
        static_query=turn(static[:, None, None]),
        block_query=turn(batch.offsets.transpose(1, 2)[:, None, :, None]),
        header_query=turn(batch.header_offsets[:, :, None]),
        fix_query=turn((static[at, index] + batch.fix_offsets)[:, None, None]),
        see_role=see_role[:, None],
        see_context=see_context[:, None, None],
        see_history=batch.see_history[:, None, None],
        see_block=batch.see_block[:, None, None],
        see_headers=batch.header_seen[:, :, None],
        fix_rows=batch.fix_rows,
        fix_seen=batch.fix_seen[:, None, None],
    )


def _join(prompt: Tensor, roles: Tensor) -> Tensor:
    """Masks over the prompt [B, 1, P] and over the roles [B, n, W * R] as one [B, n, C]."""
    return torch.cat([prompt.expand(-1, roles.shape[1], -1), roles], dim=2)


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Rotate the last dimension (halves paired, as transformers does)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = by
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _part(x: Tensor, plan: Plan) -> Tensor:
    """The prompt and the roles of ``x`` [B, heads, F + T, d]. -> [B, heads, C, d]"""
    prompt = x[:, :, : plan.prompt]
    if not plan.roles:
        return prompt
    start = plan.prompt + HEADERS
    return torch.cat([prompt, x[:, :, start : start + plan.roles]], dim=2)


class Norm(nn.Module):
    """RMS norm over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Attention of the fixed part to itself, and of the work to everything in its views."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        d, h, g = shape.head_dim, shape.heads, shape.groups
        self.q_proj = nn.Linear(shape.hidden, h * d, bias=False)
        self.k_proj = nn.Linear(shape.hidden, g * d, bias=False)
        self.v_proj = nn.Linear(shape.hidden, g * d, bias=False)
        self.o_proj = nn.Linear(h * d, shape.hidden, bias=False)
        self.q_norm = Norm(d, shape.eps)
        self.k_norm = Norm(d, shape.eps)

    def forward(self, x: Tensor, plan: Plan) -> Tensor:
        """``x`` [B, F + T, hidden] -> the same shape."""
        shape = self.shape
        size, length, _ = x.shape
        group = shape.heads // shape.groups
        q = self.q_norm(self.q_proj(x).view(size, length, shape.groups, group, shape.head_dim))
        k = self.k_norm(self.k_proj(x).view(size, length, shape.groups, shape.head_dim))
        v = self.v_proj(x).view(size, length, shape.groups, shape.head_dim)
        q = q * shape.head_dim**-0.5
        own = plan.prompt + HEADERS  # where the roles begin
        start = own + plan.roles  # where the work begins
        headers = v[:, plan.prompt : own, :, None].expand(-1, -1, -1, group, -1).flatten(2)
        context = self._context(q, k, v, plan)
        prompt, roles = context[:, : plan.prompt], context[:, plan.prompt :]
        work = self._work(q[:, start:], k, v, plan)
        out: Tensor = self.o_proj(torch.cat([prompt, headers, roles, work], dim=1))
        return out

    def _context(self, q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> Tensor:
        """The prompt is causal; a role sees the prompt and itself. -> [B, C, heads * d]"""
        p = plan.prompt
        group = self.shape.heads // self.shape.groups
        q = _part(q.flatten(2, 3).transpose(1, 2), plan)
        q = rotate(q, plan.context_key)  # [B, heads, C, d]
        k = rotate(_part(k.transpose(1, 2), plan), plan.context_key)
        k = k.repeat_interleave(group, dim=1)
        v = _part(v.transpose(1, 2), plan).repeat_interleave(group, dim=1)
        attend = F.scaled_dot_product_attention
        out = attend(q[:, :, :p], k[:, :, :p], v[:, :, :p], is_causal=True, scale=1.0)
        if plan.roles:
            roles = attend(q[:, :, p:], k, v, attn_mask=plan.see_role, scale=1.0)
            out = torch.cat([out, roles], dim=2)
        return out.transpose(1, 2).flatten(2)

    def _work(self, q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> Tensor:
        """One softmax over prompt, role, history, blocks and headers. -> [B, T, heads * d]

        Scores are small (queries and keys are normalized), so no maximum is subtracted.
        """
        size, time, groups, group, dim = q.shape
        workers, first = plan.workers, plan.prompt
        start = first + HEADERS + plan.roles
        qt = q.permute(0, 2, 3, 1, 4)  # [B, groups, group, T, d]
        kt, vt = k.transpose(1, 2), v.transpose(1, 2)  # [B, groups, F + T, d]
        static = rotate(qt, plan.static_query).flatten(2, 3)  # [B, groups, group * T, d]
        turned = rotate(qt, plan.context_query).flatten(2, 3) if plan.roles else static
        context_key = rotate(_part(kt, plan), plan.context_key)
        context = (turned @ context_key.transpose(2, 3)).view(size, groups, group, time, -1)
        moved_key = rotate(kt[:, :, start:], plan.static_key)
        moved = (static @ moved_key.transpose(2, 3)).view(size, groups, group, time, time)
        if plan.fix_rows.shape[0]:
            moved = self._fix(moved, q, moved_key, plan)
        local_key = rotate(kt[:, :, start:], plan.local_key)
        local_key = local_key.view(size, groups, workers, -1, dim)
        turned = rotate(qt[:, :, None], plan.block_query).flatten(3, 4)  # [B, g, W, group * T, d]
        local = turned @ local_key.transpose(3, 4)  # [B, groups, W, group * T, L]
        local = local.transpose(2, 3).reshape(size, groups, group, time, time)
        work = torch.where(plan.see_block, local, moved)
        e_context = context.exp() * plan.see_context
        e_work = work.exp() * (plan.see_block | plan.see_history)
        e_headers = self._headers(q, k, plan)  # [B, groups, group, T, 4]
        total = e_context.sum(-1) + e_work.sum(-1) + e_headers.sum(-1)
        out = e_context.flatten(2, 3) @ _part(vt, plan)
        out = out + e_work.flatten(2, 3) @ vt[:, :, start:]
        out = out + e_headers.flatten(2, 3) @ vt[:, :, first : first + HEADERS]
        out = out.view(size, groups, group, time, dim) / total[..., None]
        return out.permute(0, 3, 1, 2, 4).flatten(2)

    def _headers(self, q: Tensor, k: Tensor, plan: Plan) -> Tensor:
        """Weights of PAST, OTHERS, OPEN (of all workers) and OWN. -> [B, groups, group, T, 4]

        The rotation is taken apart: ``rotate(q) @ k`` is a sum of cosines and sines whose
        coefficients depend on the header, not on the worker.
        """
        keys = k[:, None, plan.prompt : plan.prompt + HEADERS, :, None]  # [B, 1, 4, groups, 1, d]
        k1, k2 = keys.chunk(2, dim=-1)
        q1, q2 = q[:, :, None].chunk(2, dim=-1)  # [B, T, 1, groups, group, d / 2]
        cos_part = q1 * k1 + q2 * k2  # [B, T, 4, groups, group, d / 2]
        sin_part = q1 * k2 - q2 * k1
        cos, sin = (part[:, :, 0, :, None, None] for part in plan.header_query)
        weights = []
        for header, which in enumerate((slice(0, 1), slice(1, 2), slice(3, None), slice(2, 3))):
            a, b = cos_part[:, :, header : header + 1], sin_part[:, :, header : header + 1]
            scores = (a * cos[:, :, which] + b * sin[:, :, which]).sum(-1)
            shown = plan.see_headers[:, :, 0, which, None, None]
            weights.append((scores.exp() * shown).sum(2))
        return torch.stack(weights, dim=-1).permute(0, 2, 3, 1, 4)

    def _fix(self, moved: Tensor, q: Tensor, keys: Tensor, plan: Plan) -> Tensor:
        """Closing tokens see the steps that close with them, and later in the history, nearer.

        ``moved`` [B, groups, group, T, T], ``keys`` [B, groups, T, d].
        """
        at, index = plan.fix_rows.unbind(1)
        turned = rotate(q[at, index], plan.fix_query)  # [N, groups, group, d]
        scores = turned @ keys[at].transpose(2, 3)  # [N, groups, group, T]
        rows = moved[at, :, :, index]
        moved = moved.clone()
        moved[at, :, :, index] = torch.where(plan.fix_seen, scores, rows)
        return moved


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.ff, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.ff, bias=False)
        self.down_proj = nn.Linear(shape.ff, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Mlp(shape)
        self.input_layernorm = Norm(shape.hidden, shape.eps)
        self.post_attention_layernorm = Norm(shape.hidden, shape.eps)

    def forward(self, x: Tensor, plan: Plan) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), plan)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Body(nn.Module):
    """Everything below the head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.eps)


class Net(nn.Module):
    """The language model with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.5 * parameter.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * shape.layers) ** 0.5
                nn.init.normal_(parameter, std=std)

    def forward(self, batch: Batch) -> Tensor:
        """The final hidden states of the work, [B, T, hidden]."""
        plan = make_plan(batch, self.shape)
        x = self.model.embed_tokens(batch.tokens)
        for layer in self.model.layers:
            x = layer(x, plan)
        out: Tensor = self.model.norm(x[:, plan.prompt + HEADERS + plan.roles :])
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """``[..., hidden] -> [..., vocabulary]``"""
        return F.linear(hidden, self.model.embed_tokens.weight)
