"""The oracle: how a perfect team would work on a problem, token by token and tick by tick.

Every worker decides from what its own view shows at the tick, nothing else. The traces are what
the bundled model learns from. They vary in everything that may differ at inference, for what is
not in them the model cannot do.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache

from tokenizers import Tokenizer

from hogwild_agents.bundled import tokenizer as words
from hogwild_agents.bundled.task import LABELS, Distribution, Problem, draw_problem

NEVER = 10**6  # a tick that does not come
_PLACES = 4
_ROLE_WORDS = (
    "you are a the an to of and in all with be by who check checker add adds careful fast quick "
    "sums numbers tasks work works others results first last boss leader mathematician teacher "
    "student expert skeptic critic writer solver planner verify every each step think find look "
    "errors from end start begin always never help us team it is do your best double plan answer"
).split()


class Layout(Enum):
    """What a worker sees of the others."""

    COMBINED = "combined"
    CONTIGUOUS = "contiguous"
    INTERLEAVED = "interleaved"
    ISOLATED = "isolated"

    @property
    def has_history(self) -> bool:
        """Whether finished steps move to a history that all see."""
        return self in (Layout.COMBINED, Layout.INTERLEAVED)

    @property
    def shows_unfinished(self) -> bool:
        """Whether a worker sees what the others are writing."""
        return self in (Layout.COMBINED, Layout.CONTIGUOUS)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """All that is given before a run: the problem, the team, and what will happen to it.

    ``roles`` are what stands in the workers' private blocks; the oracle does not care.

    ``opens[viewer][author]`` is the tick from which the viewer sees the author's unfinished text.
    Checks come at the start of a step, every so many tokens of a worker or by chance. ``slips`` is
    the chance that a worker claims another task than it should, ``misjudged`` that it then decides
    a race wrongly, so that the team must recover.
    """

    problem: Problem
    names: tuple[str, ...]
    roles: tuple[str, ...] = ()
    layout: Layout = Layout.COMBINED
    starts: tuple[int, ...] = ()
    stops: tuple[int, ...] = ()
    opens: tuple[tuple[int, ...], ...] = ()
    check_every: int = 0
    check_chance: float = 0.0
    finish_tick: int = NEVER
    finish_worker: int = 0
    finish_alone: bool = True
    slips: float = 0.0
    misjudged: float = 0.5
    seed: int = 0

    def filled(self) -> Scenario:
        """With the defaults of the per-worker fields written out."""
        number = len(self.names)
        return replace(
            self,
            roles=self.roles or ("",) * number,
            starts=self.starts or (1,) * number,
            stops=self.stops or (NEVER,) * number,
            opens=self.opens or ((1,) * number,) * number,
        )


@dataclass
class Step:
    """One step of one worker, as far as its tokens have been fed."""

    worker: int
    tokens: list[int] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)  # what was to be sampled here, or -1
    weights: list[float] = field(default_factory=list)  # how much that counts in the loss
    closed: int = NEVER  # the tick in which the last token was fed
    label: str | None = None
    after_label: int = 0  # how many tokens follow the label
    taken: bool = False

    @property
    def is_claim(self) -> bool:
        """Whether the step claims its task (so far)."""
        return self.label is not None and not self.taken


@dataclass
class Trace:
    """A finished run: steps in the order in which they began."""

    scenario: Scenario
    prompt: list[int]
    steps: list[Step]
    ticks: int
    answer: str | None


@dataclass
class _Worker:
    index: int
    pending: list[int] = field(default_factory=list)
    plan: list[int] = field(default_factory=list)
    weight: float = 1.0
    number: int = 0
    since_check: int = 0
    step: Step | None = None
    latest: Step | None = None  # the last finished step
    asked: bool = False
    boxed: list[str] | None = None  # the oracle's box so far
    content: list[int] | None = None  # what was sampled into the box


@cache
def vocabulary() -> dict[str, int]:
    """Token ids by text, for the tokens that the oracle writes."""
    tokenizer = words.build_tokenizer()
    texts = [words.IDLE, words.TAKEN, words.BOX, words.BOX_END, words.YES, words.NO]
    texts += [words.UNKNOWN, ", ?", words.STEP_END, " +", " -", " ="]
    texts += [f"{label})" for label in LABELS]
    texts += [f"{before}{value}" for before in ("", " ", ", ") for value in range(31)]
    return {text: _only(tokenizer.encode(text).ids) for text in texts}


@cache
def encode(text: str) -> tuple[int, ...]:
    """The tokens of a text that the runtime writes."""
    return tuple(_tokenizer().encode(text, add_special_tokens=False).ids)


def prompt_tokens(problem: Problem) -> list[int]:
    """The prompt block, with the thinking opened."""
    text = f"{words.USER}{problem.text}{words.ASSISTANT}{words.THINK}\n"
    return list(_tokenizer().encode(text, add_special_tokens=False).ids)


def run_oracle(scenario: Scenario, max_ticks: int = 1000) -> Trace:
    """Let the perfect team work until somebody's box is complete."""
    team = TracedTeam(scenario)
    while not team.finished and team.tick < max_ticks:
        team.feed()
        right = [team.decide(worker) for worker in team.active]
        slipped = [team.slip(w, token) for w, token in zip(team.active, right, strict=True)]
        team.sample(slipped, right)
    return team.trace()


class TracedTeam:
    """One run, tick by tick: ``feed`` writes the pending tokens, ``sample`` sets the next ones.

    The oracle says by ``decide`` which those should be; a model may be asked instead.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario = scenario.filled()
        self.rng = random.Random(scenario.seed)
        self.workers = [_Worker(index) for index in range(len(scenario.names))]
        self.active: list[_Worker] = []
        self.steps: list[Step] = []
        self.tick = 0
        self.answer: str | None = None
        self.finished = False
        self.vocabulary = vocabulary()
        self.labels = {self.vocabulary[f"{label})"]: label for label in LABELS}
        self.values = {
            label: str(task.value)
            for label, task in zip(LABELS, scenario.problem.sums, strict=False)
        }

    def feed(self) -> None:
        """Begin a tick: every active worker writes what is pending, and what is forced."""
        self.tick += 1
        self.active = [worker for worker in self.workers if self._is_active(worker)]
        for worker in self.active:
            self._feed(worker)

    def sample(self, tokens: list[int], targets: list[int] | None = None) -> None:
        """End a tick: one sampled token (and what it should have been) for each active worker."""
        for worker, token, target in zip(self.active, tokens, targets or tokens, strict=True):
            assert worker.step is not None
            worker.step.targets[-1] = target
            worker.step.weights[-1] = worker.weight
            worker.pending = [token]
            worker.since_check += 1
            self._watch_box(worker, token)

    def trace(self) -> Trace:
        """The run so far."""
        prompt = prompt_tokens(self.scenario.problem)
        return Trace(self.scenario, prompt, self.steps, self.tick, self.answer)

    def _is_active(self, worker: _Worker) -> bool:
        scenario, index = self.scenario, worker.index
        if self.tick > scenario.finish_tick and scenario.finish_alone:
            return index == scenario.finish_worker
        return scenario.starts[index] <= self.tick < scenario.stops[index]

    # Feeding

    def _feed(self, worker: _Worker) -> None:
        """Write the pending token (it may end the step), then what is forced."""
        for token in worker.pending:
            self._write(worker, token)
            if token == self.vocabulary[words.STEP_END] and worker.step is not None:
                worker.step.closed = self.tick
                worker.latest, worker.step = worker.step, None
        if worker.step is None:
            self._open_step(worker)
        if self.tick == self.scenario.finish_tick and worker.index == self.scenario.finish_worker:
            for token in encode(words.FINISHER):
                self._write(worker, token)
            worker.plan, worker.boxed, worker.asked = [], [], False
            worker.content = []

    def _open_step(self, worker: _Worker) -> None:
        worker.step = Step(worker.index)
        worker.number += 1
        self.steps.append(worker.step)
        for token in encode(words.prefix(self.scenario.names[worker.index], worker.number)):
            self._write(worker, token)
        due = 0 < self.scenario.check_every <= worker.since_check
        if due or self.rng.random() < self.scenario.check_chance:
            worker.since_check = 0
            worker.asked = True
            for token in encode(words.CHECK):
                self._write(worker, token)

    def _write(self, worker: _Worker, token: int) -> None:
        step = worker.step
        assert step is not None
        step.tokens.append(token)
        step.ticks.append(self.tick)
        step.targets.append(-1)
        step.weights.append(1.0)
        if step.label is not None:
            step.after_label += 1
            step.taken = step.taken or token == self.vocabulary[words.TAKEN]
        elif token in self.labels:
            step.label = self.labels[token]

    # Sampling

    def _watch_box(self, worker: _Worker, token: int) -> None:
        """The run ends with the first box whose content was sampled to its end."""
        if token == self.vocabulary[words.BOX]:
            worker.content = []
        elif worker.content is not None and token == self.vocabulary[words.BOX_END]:
            if not self.finished:
                self.answer = _tokenizer().decode(worker.content, skip_special_tokens=False)
            self.finished = True
        elif worker.content is not None:
            worker.content.append(token)

    def decide(self, worker: _Worker) -> int:
        """The next token, from what the worker sees now; rare decisions count for more."""
        step = worker.step
        assert step is not None
        worker.weight = 1.0
        if worker.boxed is not None:
            worker.weight = 2.0
            return self._next_in_box(worker)
        if worker.asked:
            worker.asked = False
            worker.weight = 3.0
            return self.vocabulary[words.YES if self._is_redundant(worker) else words.NO]
        if step.label is not None and step.after_label == 0:
            if self._is_contested(worker, step.label):
                worker.weight = 5.0
            if self._lost_race(worker, step.label):
                worker.plan = [self.vocabulary[words.TAKEN], self.vocabulary[words.STEP_END]]
        if worker.plan:
            return worker.plan.pop(0)
        return self._begin(worker)

    def slip(self, worker: _Worker, token: int) -> int:
        """Now and then, another token than the right one: a wrong claim, or a race misjudged."""
        step = worker.step
        assert step is not None
        if not self.scenario.slips or worker.boxed is not None:
            return token
        if token in self.labels and self.rng.random() < self.scenario.slips:
            label = self._wrong_claim(worker)
            worker.plan = self._work(label)
            return self.vocabulary[f"{label})"]
        if step.label is None or step.after_label or not self._is_contested(worker, step.label):
            return token
        if self.rng.random() < self.scenario.misjudged:
            if token == self.vocabulary[words.TAKEN]:
                worker.plan = self._work(step.label)
                return worker.plan.pop(0)
            worker.plan = [self.vocabulary[words.STEP_END]]
            return self.vocabulary[words.TAKEN]
        return token

    def _wrong_claim(self, worker: _Worker) -> str:
        """What a worker of another place would claim, or anything."""
        claimed = {step.label for step in self._seen(worker) if step.is_claim}
        free = [label for label in self.values if label not in claimed]
        if self.rng.random() < 0.2:
            return self.rng.choice(list(self.values))
        return free[_choice(self.rng.randrange(_PLACES), len(free))]

    def _is_contested(self, worker: _Worker, label: str) -> bool:
        """Whether another worker's claim of the task is in view."""
        others = (step for step in self._seen(worker) if step.worker != worker.index)
        return any(step.is_claim and step.label == label for step in others)

    def _begin(self, worker: _Worker) -> int:
        """Claim a free task, or write the box, or wait."""
        seen = self._seen(worker)
        finished = {step.label for step in seen if step.is_claim and step.closed <= self.tick}
        if all(label in finished for label in self.values):
            worker.boxed = []
            worker.weight = 3.0
            return self.vocabulary[words.BOX]
        claimed = {step.label for step in seen if step.is_claim}
        free = [label for label in self.values if label not in claimed]
        if not free:
            worker.weight = 1.0 if self._idles(worker) else 3.0
            return self.vocabulary[words.IDLE]
        worker.weight = 3.0
        place = _place(self.scenario.names[worker.index])
        label = free[_choice(place, len(free))]
        worker.plan = self._work(label)
        return self.vocabulary[f"{label})"]

    def _idles(self, worker: _Worker) -> bool:
        """Whether the worker has waited already in this step, so that waiting on is no decision."""
        return worker.step is not None and worker.step.tokens[-1] == self.vocabulary[words.IDLE]

    def _work(self, label: str) -> list[int]:
        """The chain of a task after its label."""
        task = self.scenario.problem.sums[LABELS.index(label)]
        texts = [f" {task.first}"]
        for term, value in zip(task.rest, task.running, strict=True):
            texts += [" +" if term > 0 else " -", f" {abs(term)}", " =", f" {value}"]
        return [self.vocabulary[text] for text in [*texts, words.STEP_END]]

    def _next_in_box(self, worker: _Worker) -> int:
        """The next value of the box, ``?`` where no finished step shows it, or its end."""
        boxed = worker.boxed
        assert boxed is not None
        if len(boxed) == len(self.values):
            return self.vocabulary[words.BOX_END]
        label = LABELS[len(boxed)]
        known = any(
            step.label == label and step.is_claim and step.closed <= self.tick
            for step in self._seen(worker)
        )
        value = self.values[label] if known else words.UNKNOWN
        boxed.append(value)
        return self.vocabulary[value if len(boxed) == 1 else f", {value}"]

    def _is_redundant(self, worker: _Worker) -> bool:
        """The truth about the worker's latest finished step."""
        latest = worker.latest
        if latest is None:
            return False
        others = (step for step in self._seen(worker) if step.worker != worker.index)
        return latest.taken or any(s.is_claim and s.label == latest.label for s in others)

    def _lost_race(self, worker: _Worker, label: str) -> bool:
        """Whether somebody is ahead with this task, or claimed it too and is senior."""
        name = self.scenario.names[worker.index].casefold()
        for step in self._seen(worker):
            if step.worker == worker.index or step.label != label or step.taken:
                continue
            senior = self.scenario.names[step.worker].casefold() < name
            if step.after_label > 0 or senior:
                return True
        return False

    def _seen(self, worker: _Worker) -> list[Step]:
        """The steps (all, or as far as they are written) in the worker's view."""
        scenario = self.scenario
        opens = scenario.opens[worker.index]
        seen = []
        for step in self.steps:
            own = step.worker == worker.index
            moved = scenario.layout.has_history and step.closed <= self.tick
            shown = scenario.layout.shows_unfinished and opens[step.worker] <= self.tick
            if own or moved or shown:
                seen.append(step)
        return seen


def _place(name: str) -> int:
    """Where in the list a worker of this name looks for a task: by its initial, A to D and on."""
    return (ord(name.casefold()[0]) - ord("a")) % _PLACES


def _choice(place: int, free: int) -> int:
    """Which of the free tasks is claimed from a place: first, last, second or second last."""
    last = free - 1
    return (0, last, min(1, last), max(last - 1, 0))[place]


# Drawing scenarios


def draw_scenario(rng: random.Random, distribution: Distribution, workers: int) -> Scenario:
    """A random scenario for a team of the given size, of the widest variety."""
    problem = draw_problem(rng, distribution)
    layout = _draw_layout(rng, workers)
    every, chance = _draw_checks(rng)
    work = sum(4 * len(task.rest) + 6 for task in problem.sums)
    spread = 1 if layout is Layout.ISOLATED else workers
    finish = rng.randint(1, work // spread + 15) if rng.random() < 0.25 else NEVER
    finish_worker = rng.randrange(workers)
    starts = _draw_starts(rng, workers)
    stops = _draw_stops(rng, workers, work // spread)
    if finish < NEVER:
        finish = max(finish, starts[finish_worker])
    elif any(stop < NEVER for stop in stops):
        finish = max(*starts, work // spread + rng.randint(20, 60))
    if finish < NEVER and stops[finish_worker] < NEVER:
        stops = (NEVER,) * workers
    names = draw_names(rng, workers)
    return Scenario(
        problem=problem,
        names=names,
        roles=_draw_roles(rng, names),
        layout=layout,
        starts=starts,
        stops=stops,
        opens=_draw_opens(rng, workers, work // spread),
        check_every=every,
        check_chance=chance,
        finish_tick=finish,
        finish_worker=finish_worker,
        finish_alone=rng.random() < 0.8,
        slips=rng.uniform(0.05, 0.5) if rng.random() < 0.6 else 0.0,
        misjudged=rng.uniform(0.1, 0.9),
        seed=rng.randrange(2**31),
    )


def draw_names(rng: random.Random, number: int) -> tuple[str, ...]:
    """Distinct names in any order: often the first defaults, some others, some spelt out."""
    kind = rng.random()
    if kind < 0.25:
        return tuple(rng.sample(words.NAMES[:number], number))
    pool = words.NAMES[:8] if kind < 0.65 else words.NAMES
    names: list[str] = []
    while len(names) < number:
        name = _spelt_name(rng) if rng.random() < 0.15 else rng.choice(pool)
        if name.casefold() not in {other.casefold() for other in names}:
            names.append(name)
    return tuple(names)


def _spelt_name(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.15:
        return f"{rng.choice(('Worker', 'Agent', 'W', 'worker-'))}{rng.randint(1, 9)}"
    letters = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7)))
    return letters if kind < 0.25 else letters.capitalize()


def _draw_roles(rng: random.Random, names: tuple[str, ...]) -> tuple[str, ...]:
    """Mostly none; else some text for some of the workers, from which nothing follows."""
    if rng.random() < 0.88:
        return ("",) * len(names)
    share = rng.choice((0.5, 1.0))
    texts = (" ".join(rng.choices(_ROLE_WORDS, k=rng.randint(2, 9))) for _ in names)
    return tuple(
        words.role(name, f"{text.capitalize()}.") if rng.random() < share else ""
        for name, text in zip(names, texts, strict=True)
    )


def _draw_layout(rng: random.Random, workers: int) -> Layout:
    """An isolated worker learns nothing from its team, so only lone ones are drawn."""
    weights = (52, 15, 5, 28) if workers == 1 else (62, 25, 13, 0)
    return rng.choices(list(Layout), weights)[0]


def _draw_checks(rng: random.Random) -> tuple[int, float]:
    kind = rng.random()
    if kind < 0.5:
        return 0, 0.0
    if kind < 0.85:
        return rng.randint(15, 80), 0.0
    return 0, rng.uniform(0.1, 1.0)


def _draw_starts(rng: random.Random, workers: int) -> tuple[int, ...]:
    starts = [1] * workers
    kind = rng.random()
    if kind < 0.06:
        starts[rng.randrange(workers)] = rng.randint(2, 60)
    elif kind < 0.2:
        starts = [rng.randint(1, 4) for _ in range(workers)]
    first = min(starts)
    return tuple(start - first + 1 for start in starts)


def _draw_stops(rng: random.Random, workers: int, length: int) -> tuple[int, ...]:
    stops = [NEVER] * workers
    if workers > 1 and rng.random() < 0.05:
        stops[rng.randrange(workers)] = rng.randint(2, length + 2)
    return tuple(stops)


def _draw_opens(rng: random.Random, workers: int, length: int) -> tuple[tuple[int, ...], ...]:
    """Mostly all views are open; else they open late, or some never do."""
    kind = rng.random()
    if kind < 0.80:
        return ((1,) * workers,) * workers
    late = rng.randint(2, length + 10)
    if kind < 0.88:  # a view that opens at once makes a race, a later one a double
        late = rng.choice((2, rng.randint(2, 8), late))
        return ((late,) * workers,) * workers
    choices = (1, late, NEVER) if kind < 0.95 else (1, NEVER)
    return tuple(tuple(rng.choices(choices, k=workers)) for _ in range(workers))


@cache
def _tokenizer() -> Tokenizer:
    return words.build_tokenizer()


def _only(ids: list[int]) -> int:
    assert len(ids) == 1
    return ids[0]
