"""Probe: a short text whose logits are compared with those of the model's plain forward.

What rounding explains depends on the weights: trained ones magnify it more than random ones do. In
bfloat16 SmolLM2-135M's own logits move by 5 % of their spread where the last bits of the embeddings
change, and by 4 % from one of transformers' attentions to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.loan import Loan
from hogwild_agents.engine.refusals import refusal, refusing
from hogwild_agents.errors import ConfigError

if TYPE_CHECKING:
    from hogwild_agents.engine.engine import Engine

_TIMES, _MOST = 3.0, 0.5
"""Logits may differ by so many times what last bits come to, but by no more than half their spread:
a model that is computed wrongly gives others altogether."""


class Probe:
    """A text of token ids, and what a model's plain forward makes of it.

    Args:
        loan: the model, while it has an attention of its own.

    Attributes:
        tokens: the ids.

    Raises:
        UnsupportedModelError: the model's code raised.
    """

    def __init__(self, loan: Loan) -> None:
        self._model = loan.model
        with refusing(loan.model):
            self.tokens = probe_tokens(loan.vocab_size, 24)
            self._expected = self._plain(loan)

    def check(self, engine: Engine) -> tuple[float, float]:
        """Write the text with an engine of the model.

        Returns:
            by how much its logits differ, and how much of that rounding explains; see
            :func:`probe_error`.

        Raises:
            ConfigError: the context is too short for the text, which says nothing of the model.
            UnsupportedModelError: they differ by more than rounding explains.
        """
        context, needed = engine.context_length, len(self.tokens)
        if context is not None and context < needed:
            raise ConfigError(
                f"The context is {context} tokens long, but the check of the model on loading "
                f"writes {needed}: give a max_context of {needed} or more."
            )
        with refusing(self._model):
            found = self._write(engine)
        error, bound = probe_error(found, self._expected), probe_bound(self._expected.dtype)
        if bound < error <= _MOST:  # a second look, which few models need
            with refusing(self._model), embeddings_changed(self._model):
                moved = self._write(engine)
            trembling = probe_error(moved, found.to(self._expected.dtype))
            bound = max(bound, min(_TIMES * trembling, _MOST))
        if not error <= bound:
            raise refusal(
                self._model,
                f"one worker's logits differ from its plain forward by {error:.1e} of their "
                f"spread (at most {bound:.0e} is rounding)",
            )
        return error, bound

    def _plain(self, loan: Loan) -> Tensor:
        text = loan.model.config.get_text_config(decoder=True)
        if getattr(text, "attn_logit_softcapping", None) is not None:
            loan.model.set_attn_implementation("eager")  # transformers' sdpa drops the cap
        with torch.no_grad():
            output = loan.model(torch.tensor([self.tokens], device=loan.device), use_cache=False)
        logits: Tensor = output.logits[0]
        return logits

    def _write(self, engine: Engine) -> Tensor:
        """Write the text over three blocks, with a step that ends, and return all its logits."""
        prompt, step, own = (engine.block(name) for name in ("prompt", "step", "own"))
        ids = self.tokens
        parts = [
            engine.forward([Feed(prompt, [prompt], ids[:7])], logits="all"),
            engine.forward([Feed(step, [prompt, step], ids[7:12])], logits="all"),
            engine.forward([Feed(step, [prompt, step], ids[12:13])], logits="all"),
            engine.forward([Feed(own, [prompt, step, own], ids[13:16])], logits="all"),
        ]
        engine.move(step, prompt)
        for token in ids[16:]:
            parts.append(engine.forward([Feed(own, [prompt, own], [token])]))
        for block in (prompt, step, own):
            engine.free(block)
        return torch.cat(parts)


@contextmanager
def embeddings_changed(model: Any, steps: float = 0.5) -> Iterator[None]:
    """Let the last bits of embeddings be others meanwhile, as though they were rounded anew.

    Args:
        model: whose weights stay what they are.
        steps: by how much of their dtype's precision, relative to each number.
    """
    random = torch.Generator("cpu").manual_seed(0)

    def change(module: Any, args: Any, states: Tensor) -> Tensor:
        if type(states) is not Tensor:  # a share of one, of a model that is split
            return states
        signs = torch.randint(-1, 2, states.shape, generator=random, device="cpu")
        return states + states * (signs.to(states) * (torch.finfo(states.dtype).eps * steps))

    hook = model.get_input_embeddings().register_forward_hook(change)
    try:
        yield
    finally:
        hook.remove()


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
    """Return the error that rounding explains in any model."""
    return 0.05 if dtype in (torch.float16, torch.bfloat16) else 1e-3
