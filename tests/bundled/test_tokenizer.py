"""Any text round-trips; the runtime's strings are few tokens; pieces and wholes agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hogwild_agents.bundled import tokenizer as words
from hogwild_agents.bundled.task import held_out_problems
from hogwild_agents.bundled.traces import Layout, Scenario, prompt_tokens, run_oracle

BUILT = words.build_tokenizer()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    words.save_tokenizer(folder)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


@given(st.text())
@settings(max_examples=200)
def test_any_text_round_trips(text: str) -> None:
    ids = BUILT.encode(text, add_special_tokens=False).ids
    assert BUILT.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (words.PAST, 1),
        (words.OTHERS, 1),
        (words.OWN, 1),
        (words.OPEN, 1),
        (words.CHECK, 3),
        (words.FINISHER, 6),
        (words.prefix("Alice", 3), 3),
        (words.prefix("Zork", 40), 6),
        (words.STEP_END, 1),
        ("a) 7 + 1 = 8 - 3 = 5.\n\n", 11),
        ("\\boxed{7, 12, ?}", 5),
    ],
)
def test_fixed_strings_are_few_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, count: int
) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == count
    assert tokenizer.decode(ids) == text


def test_the_loaded_tokenizer_is_the_built_one(tokenizer: PreTrainedTokenizerBase) -> None:
    text = held_out_problems(1)[0].text + words.FINISHER + words.prefix("Bobby", 41) + "é"
    built = BUILT.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text, add_special_tokens=False) == built


def test_chat_template_ignores_the_system_message(tokenizer: PreTrainedTokenizerBase) -> None:
    (problem,) = held_out_problems(1)
    messages = [
        {"role": "system", "content": "Split the work."},
        {"role": "user", "content": problem.text},
    ]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == f"<|user|>{problem.text}<|assistant|>"
    ids = tokenizer.encode(text + "<think>\n", add_special_tokens=False)
    assert ids == prompt_tokens(problem)


def test_traces_use_the_tokens_of_their_text(tokenizer: PreTrainedTokenizerBase) -> None:
    (problem,) = held_out_problems(1)
    names = ("Alice", "Zork", "Carol")
    for layout in Layout:
        scenario = Scenario(problem=problem, names=names, layout=layout, check_every=30)
        for step in run_oracle(scenario).steps:
            text = tokenizer.decode(step.tokens)
            assert tokenizer.encode(text, add_special_tokens=False) == step.tokens
