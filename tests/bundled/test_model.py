"""The model that ships: plain transformers loads it, and it knows its task."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hogwild_agents.bundled import bundled_path
from hogwild_agents.bundled.generate import agreement, evaluate, load_net
from hogwild_agents.bundled.task import Distribution, held_out_problems, is_correct
from hogwild_agents.bundled.traces import Scenario, run_oracle


def test_folder_is_small_and_loads_plainly() -> None:
    folder = bundled_path()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokenizer)
    assert not model.generation_config.do_sample
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_one_worker_does_as_the_oracle() -> None:
    scenarios = [Scenario(problem=p, names=("Alice",)) for p in held_out_problems(6)]
    agree = agreement(load_net(bundled_path()), [run_oracle(s) for s in scenarios])
    assert sum(agree) >= 5


def test_two_workers_solve_small_problems() -> None:
    small = Distribution(tasks=(3, 4), terms=(3, 3))
    problems = held_out_problems(4, distribution=small)
    scenarios = [Scenario(problem=p, names=("Bob", "Alice")) for p in problems]
    traces = evaluate(load_net(bundled_path()), scenarios)
    right = [is_correct(t.answer, p) for t, p in zip(traces, problems, strict=True)]
    assert sum(right) >= 3
