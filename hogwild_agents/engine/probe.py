"""Probe: a short text whose logits are compared with those of the model's plain forward."""

from __future__ import annotations

import torch
from torch import Tensor


def probe_tokens(vocabulary: int, count: int) -> list[int]:
    """Return token ids for a probe, spread over the vocabulary."""
    return [(7919 * number + 13) % vocabulary for number in range(1, count + 1)]


def probe_error(found: Tensor, expected: Tensor) -> float:
    """Return by how much logits differ, relative to their spread.

    In half precision the median over tokens counts: an expert chosen differently by rounding
    moves single tokens, a wrong rotation moves all of them.

    Args:
        found: [tokens, vocab], float32.
        expected: the same of the plain forward, in the model's dtype.
    """
    reference = expected.float()
    spread = (reference - reference.mean(-1, keepdim=True)).norm(dim=-1).clamp_min(1e-12)
    errors = (found - reference).norm(dim=-1) / spread
    half = expected.dtype in (torch.float16, torch.bfloat16)
    return float(errors.median() if half else errors.max())


def probe_bound(dtype: torch.dtype) -> float:
    """Return the largest error that rounding explains."""
    return 0.05 if dtype in (torch.float16, torch.bfloat16) else 1e-3
