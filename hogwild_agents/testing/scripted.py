"""scripted_model: a real model on the real engine, whose workers say what they are told to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from hogwild_agents.engine import Engine, Feed, Trial
from hogwild_agents.models import LanguageModel
from hogwild_agents.spelling import encode_continuation
from hogwild_agents.testing.script import Cue, Odds, Reply, Script, Scripts
from hogwild_agents.testing.tiny import build_network
from hogwild_agents.testing.tokenizer import ByteTokenizer
from hogwild_agents.text import banned_while_reasoning, decode

_NEVER = -1e4
"""The log-probability of what a script leaves no room for; sampling parameters cannot lift it."""


def scripted_model(
    scripts: Mapping[str, Script],
    *,
    answers: Mapping[str, Mapping[str, Reply]] | None = None,
    seed: int = 0,
    context_length: int = 32768,
    max_tokens: int | None = None,
) -> LanguageModel:
    r"""Return a tiny model whose workers write what a script says, byte by byte.

    It is a real model on the real engine: cache, views, ticks and sampling are those of any other
    model. Only what comes out of a forward pass is bent, so that the scripted token is certain
    after the text of a worker. Text that a policy or the worker's own code puts in between leaves
    the script where it is. Each run begins the scripts anew.

    A worker whose script is at its end samples an end of text, which has no text of its own, and
    leaves; so does one without a script. A worker whose scripted token is banned says what the
    model makes of it, and goes on with the script when the ban is over.

    Args:
        scripts: what each worker writes, by its name: a text, or a list of texts, written one
            right after the other. A function in place of a text is called with all that the
            worker sees, as text, when its turn comes; it runs in the worker thread of the tick,
            and again if what it said was not taken up.
        answers: how each worker answers, by its name and by a part of the question: the answer, a
            function as above, or the probabilities of several answers. It counts for a probe, and
            for text that is forced upon the worker, after which it says the (most likely) answer
            before it goes on with its script.
        seed: of the weights.
        context_length: the longest view.
        max_tokens: the engine's cache budget.

    Raises:
        ConfigError: a script is none, or holds what no worker may write (``#``, ``</think>``).
    """
    tokenizer = ByteTokenizer()
    network = build_network(tokenizer, seed=seed, context_length=context_length, spare=1)
    end = int(network.config.vocab_size) - 1
    spoken = Scripts(
        scripts,
        answers or {},
        encode=lambda text: encode_continuation(tokenizer, text),
        decode=lambda ids: decode(tokenizer, ids),
        end=end,
        banned=banned_while_reasoning(tokenizer),
    )
    engine = ScriptedEngine(network, spoken, end=end, max_tokens=max_tokens)
    return ScriptedModel(name="scripted", engine=engine, tokenizer=tokenizer)


class ScriptedModel(LanguageModel):
    """A language model whose workers may leave by themselves."""

    @cached_property
    def reasoning_bans(self) -> frozenset[int]:
        """As ever, but for the end of text that scripts leave by."""
        return super().reasoning_bans - {self.engine.vocab_size - 1}


class ScriptedEngine(Engine):
    """An engine that bends the logits after what scripted workers write.

    Args:
        model: any that an engine runs.
        scripts: what they say.
        end: the token by which they leave.
        options: of :class:`Engine`.
    """

    def __init__(self, model: Any, scripts: Scripts, *, end: int, **options: Any) -> None:
        self._scripts = scripts
        self._end = end
        super().__init__(model, **options)

    def check(self, *feeds: Feed) -> None:
        """See :meth:`Engine.check`."""
        super().check(*feeds)
        for feed in feeds:
            self._scripts.expect(feed)

    def forward(self, feeds: Sequence[Feed], *, logits: Literal["last", "all"] = "last") -> Tensor:
        """See :meth:`Engine.forward`."""
        cues = self._scripts.cues(feeds)
        result = super().forward(feeds, logits=logits).clone()
        last = list(accumulate(len(feed.tokens) for feed in feeds))
        rows = [place - 1 for place in last] if logits == "all" else range(len(last))
        return self._follow(cues, result, rows)

    def _keep_trial(self, trial: Trial) -> Tensor | None:
        cues = self._scripts.cues(trial.feeds)
        result = super()._keep_trial(trial)
        if result is None:
            return None
        return self._follow(cues, result.clone(), range(len(trial.feeds)))

    def _follow(self, cues: Sequence[Cue], result: Tensor, rows: Sequence[int]) -> Tensor:
        """Bend the row of each cue's feed, and note that the tick has been run."""
        for cue in cues:
            row = rows[cue.row]
            if cue.odds is not None:
                result[row] = self._bend(result[row], cue.odds)
            cue.commit()
        return result

    def _bend(self, logits: Tensor, odds: Odds) -> Tensor:
        """Return log-probabilities in which the scripted tokens have theirs.

        Args:
            logits: [vocab], the model's own.
            odds: of the scripted tokens; what is left of 1 goes to all others.
        """
        tokens = torch.tensor(list(odds), device=logits.device)
        others = logits.clone()
        others[tokens] = others[self._end] = -math.inf  # nobody leaves by chance
        left = 1.0 - sum(odds.values())
        bent = others.log_softmax(-1) + (math.log(left) if left > 1e-6 else _NEVER)
        bent[self._end] = 2 * _NEVER
        chances = torch.tensor(list(odds.values()), dtype=bent.dtype, device=bent.device)
        bent[tokens] = chances.log()
        return bent
