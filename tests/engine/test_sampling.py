"""Sampling: distributions by naive formulas, seeds of one's own, and transformers' generate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from hogwild_agents.engine import (
    Engine,
    Feed,
    Sampled,
    Sampler,
    SamplingParams,
    sample,
    sampling,
)
from hogwild_agents.errors import ConfigError
from tests.engine.families import SUPPORTED
from tests.engine.schedules import Tokens
from tests.engine.twin import engine_of

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, -0.5, -1.0, -3.0, 0.5])
DRAWS = 600

Context = Callable[[], Sequence[int]]


def context(*ids: int) -> Context:
    """The tokens of a view."""
    return lambda: ids


def one(params: SamplingParams, logits: Tensor = LOGITS, seen: Sequence[int] = (0,)) -> Sampled:
    """Sample one token from one row."""
    return sample(logits[None], [Sampler(params, 1)], [context(*seen)])[0]


def expected_odds(params: SamplingParams, seen: Sequence[int]) -> list[float]:
    """The distribution, from the definitions, with no tensors."""
    logits = [value + params.bias.get(i, 0.0) for i, value in enumerate(LOGITS.tolist())]
    for i in set(seen):
        penalty = params.repetition_penalty
        logits[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
    for i in params.banned:
        logits[i] = -math.inf
    odds = softmax([value / params.temperature for value in logits])
    if params.top_k:
        bar = sorted(odds, reverse=True)[min(params.top_k, len(odds)) - 1]
        odds = normalised([p if p >= bar else 0.0 for p in odds])
    kept, mass = set(), 0.0
    for i in sorted(range(len(odds)), key=lambda i: -odds[i]):
        if mass < params.top_p:
            kept.add(i)
        mass += odds[i]
    odds = normalised([p if i in kept else 0.0 for i, p in enumerate(odds)])
    return normalised([p if p >= params.min_p * max(odds) else 0.0 for p in odds])


def softmax(values: Sequence[float]) -> list[float]:
    """exp and normalise."""
    return normalised([math.exp(value) for value in values])


def normalised(weights: Sequence[float]) -> list[float]:
    """Make weights sum to one."""
    return [weight / sum(weights) for weight in weights]


DISTRIBUTIONS: Mapping[str, SamplingParams] = {
    "plain": SamplingParams(),
    "hot": SamplingParams(temperature=1.7),
    "cold": SamplingParams(temperature=0.5),
    "top_k": SamplingParams(top_k=3),
    "top_k larger than the vocabulary": SamplingParams(top_k=100),
    "top_p": SamplingParams(top_p=0.7),
    "min_p": SamplingParams(min_p=0.3),
    "penalty": SamplingParams(repetition_penalty=1.8),
    "reward": SamplingParams(repetition_penalty=0.6),
    "banned": SamplingParams(banned=frozenset({0, 2})),
    "bias": SamplingParams(bias={3: 2.0, 0: -1.5}),
    "all": SamplingParams(
        temperature=1.3,
        top_k=6,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=1.2,
        banned=frozenset({1}),
        bias={4: 1.0},
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_tokens_come_as_often_as_the_definition_says(name: str) -> None:
    params, seen = DISTRIBUTIONS[name], (0, 3, 3, 5)
    sampler = Sampler(params, seed=7)
    rows = sample(
        LOGITS.expand(DRAWS, -1), [sampler] * DRAWS, [context(*seen) for _ in range(DRAWS)]
    )
    counts = Counter(row.token for row in rows)
    for token, odds in enumerate(expected_odds(params, seen)):
        if odds == 0:
            assert counts[token] == 0
        spread = 4.5 * math.sqrt(DRAWS * odds * (1 - odds))
        assert abs(counts[token] - DRAWS * odds) <= spread


def test_greedy_takes_the_most_likely() -> None:
    greedy = SamplingParams(temperature=0)
    assert one(greedy).token == 0
    assert one(greedy.replace(banned=frozenset({0}))).token == 1
    assert one(greedy.replace(bias={3: 5.0})).token == 3
    assert one(greedy.replace(repetition_penalty=1.5), seen=(0, 0)).token == 1
    assert one(greedy.replace(repetition_penalty=1.5), seen=(1,)).token == 0


def test_greedy_ignores_what_only_shapes_a_distribution() -> None:
    params = SamplingParams(temperature=0, top_k=2, top_p=0.1, min_p=0.9)
    sampler = Sampler(params, seed=3)
    rows = sample(LOGITS.expand(20, -1), [sampler] * 20, [context(0)] * 20)
    assert {row.token for row in rows} == {0}


def test_the_penalty_counts_the_whole_context() -> None:
    """Not this tick's token only, and each token once however often it stands there."""
    params = SamplingParams(temperature=0, repetition_penalty=5.0)
    long = [0] * 50 + [1] * 50 + [2]
    assert one(params, seen=long).token == 7
    assert one(params, seen=long[::-1]).token == 7


def test_an_empty_context_is_allowed() -> None:
    assert one(SamplingParams(temperature=0, repetition_penalty=1.5), seen=()).token == 0


def test_the_context_is_asked_for_only_where_it_counts() -> None:
    def never() -> Sequence[int]:
        raise AssertionError("the context was built for nothing")

    assert sample(LOGITS[None], [Sampler(SamplingParams(temperature=0))], [never])[0].token == 0


def test_a_bias_may_be_a_whole_number() -> None:
    assert one(SamplingParams(temperature=0, bias={3: 5})).token == 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_ban_of_every_token_is_an_error(temperature: float) -> None:
    """Nothing is left to choose; a banned token must not be chosen in its place."""
    params = SamplingParams(temperature=temperature, banned=frozenset(range(len(LOGITS))))
    with pytest.raises(ConfigError, match="banned"):
        one(params)


@pytest.mark.parametrize("token", [-1, len(LOGITS)])
def test_a_bias_for_no_token_is_named(token: int) -> None:
    with pytest.raises(ConfigError, match=rf"bias.*{token}"):
        one(SamplingParams(bias={token: 1.0}))


def test_one_ban_and_bias_serve_vocabularies_of_any_size() -> None:
    params = SamplingParams(banned=frozenset({2, 500}), bias={1: 5.0})
    for size in (97, 1000, 97, 1000):
        logits = torch.zeros(1, size)
        scores = Sampler(params).scores(logits, list)
        expected = torch.zeros(1, size)
        expected[0, 1], expected[0, 2] = 5.0, -torch.inf
        expected[0, 500:501] = -torch.inf
        assert torch.equal(scores, expected)


def test_a_bias_does_not_mind_the_default_dtype() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        scores = Sampler(SamplingParams(bias={1: 5.0})).scores(torch.zeros(1, 8).float(), list)
    finally:
        torch.set_default_dtype(before)
    assert scores[0, 1] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "hot"}, "temperature is 'hot', but must be at least 0, and finite."),
        (
            {"top_k": 1.5},
            r"top_k is 1\.5, but must be a whole number from 0 \(0 keeps all tokens\)",
        ),
        ({"top_k": -1}, "top_k is -1, but must be a whole number from 0"),
        ({"top_p": None}, r"top_p is None, but must be in \(0, 1\]"),
        ({"min_p": float("nan")}, r"min_p is nan, but must be in \[0, 1\]"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty is inf, but must be above 0"),
        ({"logprobs": 1.5}, r"logprobs is 1\.5, but must be a whole number from 0, or None"),
        ({"banned": [1]}, r"banned is \[1\], but must be a set of token ids"),
        ({"banned": {-1}}, r"banned is \{-1\}, but must be a set of token ids"),
        ({"banned": {1.5}}, r"banned is \{1\.5\}, but must be a set of token ids"),
        ({"banned": {"a"}}, r"banned is \{'a'\}, but must be a set of token ids"),
        ({"banned": {True}}, r"banned is \{True\}, but must be a set of token ids"),
        ({"temperature": True}, "temperature is True, but must be at least 0"),
        ({"top_p": True}, r"top_p is True, but must be in \(0, 1\]"),
        ({"bias": [1]}, r"bias is \[1\], but must be numbers by token ids"),
        ({"bias": {1.5: 2.0}}, r"bias names a token that is 1\.5, but must be a whole number"),
        ({"bias": {1: "x"}}, "bias of token 1 is 'x', but must be a number, or -inf"),
    ],
)
def test_what_is_no_such_number_is_refused_at_once(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        SamplingParams(**options)


def test_numbers_of_numpy_are_numbers() -> None:
    given: dict[str, Any] = {"temperature": np.float32(0.5), "top_k": np.int64(3)}
    params = SamplingParams(**given, banned=frozenset({np.int64(4)}))  # type: ignore[arg-type]
    assert (params.temperature, params.top_k, params.banned) == (0.5, 3, frozenset({4}))
    Sampler(params, np.int64(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1.5, True, "3", None, -1, 2**64])
def test_a_seed_that_is_no_whole_number_of_64_bits_is_refused_at_once(seed: Any) -> None:
    with pytest.raises(ConfigError, match=f"^seed is {seed!r}, but must be a whole number from 0"):
        Sampler(SamplingParams(), seed)


def test_a_sampler_of_no_parameters_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"^params of a sampler is 3, but must be SamplingParams"):
        Sampler(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_bias_that_is_no_number_is_named(value: float) -> None:
    with pytest.raises(ConfigError, match=f"bias of token 3 is {value}, but must be a number"):
        SamplingParams(bias={3: value})


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_where_nothing_can_be_drawn_no_token_is(top_p: float) -> None:
    everything = dict.fromkeys(range(1, 8), -torch.inf)
    params = SamplingParams(banned=frozenset({0}), bias=everything, top_p=top_p)
    for used, logit in ((params, 0.0), (SamplingParams(top_p=top_p), torch.inf)):
        with pytest.raises(ConfigError, match="No token can be drawn"):
            sample(torch.full((1, 8), logit), [Sampler(used)], [list])


def test_rows_do_not_influence_each_other() -> None:
    """A worker's draws depend on its seed and its logits, not on who else ticks."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(30, 3, 50, generator=generator)
    kinds = [
        SamplingParams(temperature=0.9),
        SamplingParams(top_p=0.8, repetition_penalty=1.3),
        SamplingParams(top_k=9, banned=frozenset({1, 2})),
    ]

    def run(order: Sequence[int], skip: int) -> list[list[int]]:
        samplers = [Sampler(params, seed) for seed, params in enumerate(kinds)]
        tokens: list[list[int]] = [[], [], []]
        for tick in range(30):
            rows = [row for row in order if not (row == 2 and tick % skip)]
            found = sample(
                logits[tick, rows], [samplers[row] for row in rows], [context(4)] * len(rows)
            )
            for row, result in zip(rows, found, strict=True):
                tokens[row].append(result.token)
        return tokens

    alone = run([0, 1, 2], skip=1)
    assert run([2, 0, 1], skip=1) == alone
    assert run([1, 0, 2], skip=3)[:2] == alone[:2]
    assert run([0], skip=1)[0] == alone[0]


def test_equal_seeds_draw_alike_and_others_do_not() -> None:
    def draws(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(), seed)
        return [sample(LOGITS[None], [sampler], [context(0)])[0].token for _ in range(40)]

    torch.manual_seed(0)
    first = draws(5)
    torch.manual_seed(99)
    assert draws(5) == first
    assert draws(6) != first


def test_sampling_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    one(SamplingParams())
    assert torch.equal(torch.get_rng_state(), state)


def test_new_parameters_go_on_with_the_same_random_state() -> None:
    sampler, other = Sampler(SamplingParams(), 5), Sampler(SamplingParams(), 5)
    for each in (sampler, other):
        sample(LOGITS[None], [each], [context(0)])
    sampler.params = sampler.params.replace(temperature=0)
    assert sample(LOGITS[None], [sampler], [context(0)])[0].token == 0
    sampler.params = SamplingParams()
    follow = [
        [sample(LOGITS[None], [each], [context(0)])[0].token for _ in range(20)]
        for each in (sampler, other)
    ]
    assert follow[0] == follow[1]


@pytest.mark.parametrize("name", ["plain", "all"])
def test_logprobs_are_those_of_the_model(name: str) -> None:
    params = DISTRIBUTIONS[name].replace(logprobs=3)
    wanted = LOGITS.log_softmax(-1)
    result = one(params)
    assert result.logprob == pytest.approx(float(wanted[result.token]), abs=1e-6)
    assert [token for token, _ in result.top] == [0, 1, 2]
    for token, logprob in result.top:
        assert logprob == pytest.approx(float(wanted[token]), abs=1e-6)


def test_logprobs_come_on_request_only() -> None:
    assert one(SamplingParams()) == Sampled(one(SamplingParams()).token, None, ())
    bare = one(SamplingParams(logprobs=0))
    assert bare.logprob is not None
    assert bare.top == ()
    assert len(one(SamplingParams(logprobs=50)).top) == len(LOGITS)


@settings(deadline=None)
@given(
    counts=st.lists(st.sampled_from([None, 0, 1, 3, 50]), min_size=1, max_size=6),
    greedy=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_each_row_has_as_many_logprobs_as_it_asks_for(
    counts: list[int | None], greedy: list[bool]
) -> None:
    logits = torch.randn(len(counts), 40, generator=torch.Generator().manual_seed(1))
    ways = [
        SamplingParams(temperature=0.0 if first else 1.0, logprobs=count)
        for first, count in zip(greedy, counts, strict=False)
    ]
    together = sample(logits, [Sampler(way, seed=3) for way in ways], [context(0)] * len(ways))
    for row, (way, found) in enumerate(zip(ways, together, strict=True)):
        assert [found] == sample(logits[row : row + 1], [Sampler(way, seed=3)], [context(0)])
        assert len(found.top) == min(way.logprobs or 0, 40)


def test_logits_are_left_as_they_were() -> None:
    logits = LOGITS[None].clone()
    for params in DISTRIBUTIONS.values():
        sample(logits, [Sampler(params)], [context(0, 1)])
    assert torch.equal(logits[0], LOGITS)


def test_no_rows_give_no_tokens() -> None:
    assert sample(torch.zeros(0, 5), [], []) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("logprobs", -1),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is {value}"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_parameters_are_frozen_and_replaced() -> None:
    params = SamplingParams(top_k=3)
    assert params.replace(top_p=0.5) == SamplingParams(top_k=3, top_p=0.5)
    assert params == SamplingParams(top_k=3)
    with pytest.raises(AttributeError):
        params.top_k = 4  # type: ignore[misc]
    with pytest.raises(ConfigError):
        params.replace(top_p=2)


def test_defaults_come_from_the_generation_config() -> None:
    model = SUPPORTED["llama"].build()
    assert SamplingParams.from_model(model).temperature == 0
    config = model.generation_config
    config.do_sample, config.temperature, config.top_k, config.top_p = True, 0.6, 20, 0.95
    config.min_p, config.repetition_penalty = 0.1, 1.05
    assert SamplingParams.from_model(model) == SamplingParams(
        temperature=0.6, top_k=20, top_p=0.95, min_p=0.1, repetition_penalty=1.05
    )
    config.do_sample = False
    assert SamplingParams.from_model(model) == SamplingParams(
        temperature=0, repetition_penalty=1.05
    )
    assert SamplingParams.from_model(object()) == SamplingParams()


GENERATE: Mapping[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "greedy with a penalty": {"do_sample": False, "repetition_penalty": 1.4},
    "sampled": {"do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9},
    "sampled with everything": {
        "do_sample": True,
        "temperature": 1.4,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.02,
        "repetition_penalty": 1.2,
        "suppress_tokens": [3, 4, 5],
        "sequence_bias": [[[7], 1.5], [[8], -2.0]],
    },
}


def our_params(options: Mapping[str, Any]) -> SamplingParams:
    """The same options in our words."""
    named = {
        name: options[name]
        for name in ("top_k", "top_p", "min_p", "repetition_penalty")
        if name in options
    }
    return SamplingParams(
        temperature=options.get("temperature", 1.0) if options["do_sample"] else 0.0,
        banned=frozenset(options.get("suppress_tokens", ())),
        bias={ids[0]: value for ids, value in options.get("sequence_bias", ())},
        **named,
    )


@pytest.mark.parametrize("name", [name for name in GENERATE if name.startswith("greedy")])
def test_one_worker_writes_what_generate_writes(name: str) -> None:
    options, prompt = GENERATE[name], Tokens(21)(10)
    row = generated(prompt, options).sequences[0]
    assert written(engine_of("llama"), prompt, Sampler(our_params(options))) == (
        row[len(prompt) :].tolist()
    )


@pytest.mark.parametrize("name", [name for name in GENERATE if name.startswith("sampled")])
def test_tokens_are_drawn_from_what_generate_draws_from(name: str) -> None:
    options, prompt = GENERATE[name], Tokens(21)(10)
    result = generated(prompt, options)
    sampler, engine = Sampler(our_params(options)), engine_of("llama")
    block = engine.block()
    fed = prompt
    for step, theirs in enumerate(result.scores):
        logits = engine.forward([Feed(block, [block], fed)])
        ours = sampler.scores(logits, lambda: block.tokens)
        assert torch.equal(ours.isinf(), theirs.isinf())
        assert torch.allclose(ours.softmax(-1), theirs.softmax(-1), atol=1e-4)
        fed = [int(result.sequences[0, len(prompt) + step])]
    engine.free(block)


def generated(prompt: Sequence[int], options: Mapping[str, Any]) -> Any:
    """What transformers writes, with the scores after its processors."""
    model = SUPPORTED["llama"].build()
    model.generation_config.eos_token_id = None
    options = {**({"top_k": 0} if options["do_sample"] else {}), **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return model.generate(
            torch.tensor([prompt]),
            max_new_tokens=30,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )


LARGE = 20_011
LEFT = st.builds(
    SamplingParams,
    temperature=st.floats(0.1, 3),
    top_k=st.sampled_from([0, 0, 1, 20, 2000, 9000]),
    top_p=st.sampled_from([1.0, 1.0, 0.01, 0.5, 0.95, 0.9999]),
    min_p=st.sampled_from([0.0, 0.0, 0.001, 0.1, 1.0]),
    banned=st.sampled_from([range(0), range(0, LARGE, 3), range(2, LARGE)]).map(frozenset),
)


@given(params=LEFT, seed=st.integers(0, 99), steep=st.sampled_from([0.0, 1.0, 8.0]))
def test_looking_at_a_few_tokens_of_a_large_vocabulary_changes_nothing(
    params: SamplingParams, seed: int, steep: float
) -> None:
    logits = steep * torch.randn(1, LARGE, generator=torch.Generator().manual_seed(seed))
    logits[0, 7:9] = logits.max() - 0.5  # equal ones
    sampler = Sampler(params)
    whole = sampler.scores(logits, context(0)).double().softmax(-1)[0]
    ((_, ids, scores),) = params._way.narrowed(params._way.shaped(logits, [context(0)]))
    found = torch.zeros(LARGE, dtype=torch.double)
    found[slice(None) if ids is None else ids[0]] = scores.double().softmax(-1)[0]
    # Of equal ones any may be left; where the bar is reached but for rounding, one more or less.
    off = (found.sort().values - whole.sort().values).abs().sum()
    assert off <= 2 * whole[whole > 0].min() + 1e-5
    assert int(sampler.choose(logits, context(0))) in found.nonzero()[:, 0].tolist()


@given(params=LEFT, seed=st.integers(0, 99), rows=st.integers(2, 6))
def test_rows_that_share_their_parameters_draw_as_each_does_alone(
    params: SamplingParams, seed: int, rows: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    steep = torch.rand(rows, 1, generator=generator) * 8
    logits = (steep * torch.randn(rows, LARGE, generator=generator)).round(decimals=1)  # ties
    together = [Sampler(params, row) for row in range(rows)]
    equal = [Sampler(params.replace(), row) for row in range(rows)]
    alone = [Sampler(params.replace(), row) for row in range(rows)]
    for _ in range(3):
        found = sample(logits, together, [context(0)] * rows)
        assert found == sample(logits, equal, [context(0)] * rows)
        assert found == [
            sample(logits[row : row + 1], [sampler], [context(0)])[0]
            for row, sampler in enumerate(alone)
        ]


def test_rows_of_equal_parameters_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, shaped = [], sampling._Way.shaped

    def counted(self: Any, logits: Tensor, contexts: Any) -> Tensor:
        sizes.append(len(logits))
        return shaped(self, logits, contexts)

    monkeypatch.setattr(sampling._Way, "shaped", counted)
    kinds: list[dict[str, Any]] = [
        {"temperature": 1, "banned": {3}, "bias": {1: 2, 2: 0.5}},
        {"temperature": 1, "banned": {3}, "bias": {1: 2, 2: 0.25}},
        {"temperature": 1, "banned": {4}, "bias": {1: 2, 2: 0.5}},
        {"temperature": 0},
    ]
    samplers = [Sampler(SamplingParams(**kinds[row % 4]), row) for row in range(10)]
    logits = torch.randn(10, 50, generator=torch.Generator().manual_seed(1))
    found = sample(logits, samplers, [list] * 10)
    assert sizes == [3, 3, 2, 2]
    again = [Sampler(SamplingParams(**kinds[row % 4]), row) for row in range(10)]
    assert found == [sample(logits[row : row + 1], [again[row]], [list])[0] for row in range(10)]


@given(
    size=st.sampled_from([7, 128, 600, 4096, LARGE]),
    rows=st.integers(1, 5),
    seed=st.integers(0, 999),
    spread=st.sampled_from([1, 3, 100]),
)
def test_greedy_takes_the_first_of_the_most_likely(
    size: int, rows: int, seed: int, spread: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-spread, spread + 1, (rows, size), generator=generator).float()
    logits[:, : seed % size] = -math.inf
    found = sample(logits, [Sampler(SamplingParams(temperature=0.0))] * rows, [context(0)] * rows)
    assert [one.token for one in found] == [row.index(max(row)) for row in logits.tolist()]


def test_a_sampler_that_chooses_by_itself_is_asked_among_others() -> None:
    class Last(Sampler):
        def choose(self, logits: Tensor, context: Context) -> Tensor:
            return torch.tensor([logits.shape[-1] - len(context())])

    params = SamplingParams(temperature=0.0)
    samplers = [Sampler(params), Last(params), Sampler(params)]
    found = sample(LOGITS.repeat(3, 1), samplers, [context(0, 1)] * 3)
    assert [result.token for result in found] == [0, len(LOGITS) - 2, 0]


def test_a_token_without_odds_is_never_drawn() -> None:
    logits = torch.full((1, 40), -math.inf)
    logits[0, [3, 30]] = torch.tensor([0.0, -30.0])
    sampler = Sampler(SamplingParams(), 1)
    assert {int(sampler.choose(logits, context(0))) for _ in range(300)} == {3}


def written(engine: Engine, prompt: Sequence[int], sampler: Sampler) -> list[int]:
    """Thirty tokens of one worker."""
    shared, own = engine.block(), engine.block()
    engine.forward([Feed(shared, [shared], prompt[:-1])])
    tokens = [prompt[-1]]
    for _ in range(30):
        logits = engine.forward([Feed(own, [shared, own], tokens[-1:])])
        view = context(*shared.tokens, *own.tokens)
        tokens.append(sample(logits, [sampler], [view])[0].token)
    engine.free(shared)
    engine.free(own)
    return tokens[1:]
