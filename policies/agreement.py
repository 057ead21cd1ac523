"""StopOnAgreement: end the run when several workers hold the same answer."""

from __future__ import annotations

from collections.abc import Iterable

from hogwild_agents import (
    Action,
    Finish,
    Policy,
    Probe,
    ProbeAnswered,
    Prompt,
    TokensWritten,
)
from hogwild_agents.policies.borrowed import Borrowed
from hogwild_agents.policies.boxes import Boxes, Normalise, normalise_answer
from hogwild_agents.policies.given import require_function, require_probability, require_whole

_YES, _NO = "yes", "no"


class StopOnAgreement(Policy):
    r"""Ends the run as soon as so many workers have boxed the same answer by themselves.

    Of each worker the last box counts, so it may change its mind; one who has left keeps its
    answer. The run's answer is in the words, and with the name, of the one who gave it first.
    With a threshold, whoever has no answer yet is probed whether it agrees when another one boxes
    an answer; a yes that reaches the threshold counts like a box. Without agreement a limit ends
    the run, and a :class:`Finisher` may answer then.

    Helps where a single worker is often wrong and errors differ. Without a threshold, workers
    should know from the prompt that they box an answer also when another one has. Decides per run.
    Source: the agreement of self-consistency (arXiv 2203.11171), looked for while they think.

    Args:
        workers: how many must agree, at least 1; in a smaller team they never do.
        threshold: above 0, up to 1: the probability of yes from which a probed worker agrees; None
            to count boxes only.
        normalise: gives equal answers the same form.
        prompt: what a worker is probed with: a prompt file's name or path; gets ``author`` and
            ``answer``.

    Raises:
        ConfigError: ``workers`` is no whole number from 1, ``threshold`` is no probability,
            ``normalise`` is no function, or there is no such prompt.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        threshold: float | None = None,
        normalise: Normalise = normalise_answer,
        prompt: str = "agreement",
    ) -> None:
        require_whole(f"An agreement of {workers!r} workers", workers)
        require_probability(f"An agreement has the threshold {threshold!r}", threshold)
        require_function("normalise", normalise)
        self._needed = workers
        self._threshold = threshold
        self._normalise = Borrowed(normalise)
        self._prompt = Prompt.load(prompt)
        self._boxes = Boxes()
        self._answers: dict[str, str] = {}  # by worker, in normal form
        self._first: dict[str, Finish] = {}  # by normal form: who gave it first
        self._asked: dict[tuple[str, str], str] = {}  # by worker and question: about which answer
        self._agreed: set[tuple[str, str]] = set()  # worker and answer

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        """Compare a new answer with the others'."""
        answer, author = self._boxes.push(event), event.worker
        if answer is None:
            return ()
        form = self._normalise.value(answer)
        self._answers[author] = form
        self._first.setdefault(form, Finish(answer=answer, author=author, reason="agreement"))
        if self._agree(form):
            return [self._first[form]]
        return () if self._threshold is None else self._ask(author, answer, form)

    async def on_probe_answered(self, event: ProbeAnswered) -> Finish | None:
        """Count a worker who agrees."""
        form = self._asked.pop((event.worker, event.question), None)
        if form is None or event.worker in self._answers or self._threshold is None:
            return None
        if event.probabilities[_YES] >= self._threshold:
            self._agreed.add((event.worker, form))
        return self._first[form] if self._agree(form) else None

    def _agree(self, form: str) -> bool:
        boxed = {name for name, held in self._answers.items() if held == form}
        probed = {name for name, held in self._agreed if held == form and name not in self._answers}
        return len(boxed | probed) >= self._needed

    def _ask(self, author: str, answer: str, form: str) -> list[Action]:
        question = self._prompt.render(author=author, answer=answer)
        names = [name for name in self.run.names if name not in {*self._answers, *self.run.parked}]
        self._asked.update(dict.fromkeys([(name, question) for name in names], form))
        return [Probe(worker=name, question=question, answers=(_YES, _NO)) for name in names]
