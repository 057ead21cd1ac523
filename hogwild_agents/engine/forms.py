"""Forms: in what the norms and the gates of models differ."""

from __future__ import annotations

BARE, ROUNDED, WHOLE, PLUS_ONE = 0, 1, 2, 3
"""What a normed number is multiplied by: nothing; its weight, once it was rounded to the type of
the states (Llama); its weight, and rounded then (OLMo 2); the weight and 1, and rounded then
(Gemma)."""
SILU, GELU = 0, 1
"""The form of a gate: x / (1 + exp(-x)), or the same of GELU's approximation by tanh."""
