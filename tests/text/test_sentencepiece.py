"""Real SentencePiece models, trained on the spot and loaded as transformers loads them."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings, strategies as st

from hogwild_agents import checkpoint
from hogwild_agents.errors import ModelError
from hogwild_agents.models import load_model
from hogwild_agents.spelling import check_tokenizer, encode_continuation
from hogwild_agents.text import TextStream, decode, decode_continuation
from tests.text.corpus import CORPUS

RUNS = ["\n" * count for count in range(1, 6)]
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("LlamaTokenizer", PLAIN, {}),
    "llama, legacy": ("LlamaTokenizer", PLAIN, {"legacy": True}),
    "llama, no prefix": (
        "LlamaTokenizer",
        {**PLAIN, "add_dummy_prefix": False},
        {"add_prefix_space": False},
    ),
    "gemma": (
        "GemmaTokenizer",
        {**PLAIN, "add_dummy_prefix": False, "user_defined_symbols": RUNS},
        {},
    ),
    "unigram": ("LlamaTokenizer", {**PLAIN, "model_type": "unigram"}, {}),
    "any class": ("PreTrainedTokenizerFast", PLAIN, {}),
    "no tokenizers library": ("GPTSw3Tokenizer", {**PLAIN, "pad_id": 3}, {}),
}
"""Transformers' class, how the model is trained, how the tokenizer is loaded."""

Make = Callable[[str], Any]


def train(path: Path, **options: Any) -> Path:
    """Train a model with byte fallback, and write it as folders of models have it."""
    model = io.BytesIO()
    lines = [line for text in CORPUS * 20 for line in text.split("\n") if line]
    given = {"model_type": "bpe", "vocab_size": 400, "byte_fallback": True, **options}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        hard_vocab_limit=False,
        character_coverage=0.98,
        minloglevel=2,
        **given,
    )
    path.mkdir()
    for name in ("tokenizer.model", "spiece.model"):
        (path / name).write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Returns the tokenizer of a case, made once."""
    made: dict[str, Any] = {}

    def get(case: str) -> Any:
        if case not in made:
            name, training, loading = CASES[case]
            folder = train(tmp_path_factory.mktemp("model") / "model", **training)
            made[case] = getattr(transformers, name).from_pretrained(folder, **loading)
        return made[case]

    return get


TEXTS = st.text(st.sampled_from(list("aelo ,.\n*[]:#</s>▁你💔é\u0301\t")), max_size=20)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=40)
@given(text=TEXTS, before=TEXTS)
def test_any_text_is_written_exactly(make: Make, case: str, text: str, before: str) -> None:
    tokenizer = make(case)
    check_tokenizer(tokenizer, case)
    ids, other = (
        encode_continuation(tokenizer, part, control="none") for part in (text, "a" + before)
    )
    assert decode_continuation(tokenizer, ids) == text
    assert decode(tokenizer, [*other, *ids]) == decode(tokenizer, other) + text
    assert {tokenizer.bos_token_id, tokenizer.eos_token_id}.isdisjoint(ids)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=40)
@given(data=st.data())
def test_any_ids_give_the_text_that_sentencepiece_gives(
    make: Make, case: str, data: st.DataObject
) -> None:
    """Ill-formed bytes included; what it spells otherwise is the control tokens."""
    tokenizer = make(case)
    processor = sentencepiece.SentencePieceProcessor(model_file=tokenizer.vocab_file)
    usual = [number for number in range(len(processor)) if not processor.is_control(number)]
    usual.remove(processor.unk_id())
    ids = data.draw(st.lists(st.sampled_from(usual), max_size=20))
    stream = TextStream(tokenizer)
    streamed = "".join(stream.push(token) for token in ids) + stream.flush()
    assert streamed == decode(tokenizer, ids)
    word = [processor.piece_to_id("e")]  # behind it no blank is dropped
    assert decode(tokenizer, [*word, *ids]) == processor.decode([*word, *ids])


def test_packages_that_are_not_there_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(tmp_path / "llama", **PLAIN)
    transformers.LlamaConfig(vocab_size=400).save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr(checkpoint, "version", lambda name: metadata.version(f"no-such-{name}"))
    with pytest.raises(ModelError, match=r"pip install sentencepiece protobuf\.$") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)


def test_a_folder_with_a_sentencepiece_model_is_loaded(tmp_path: Path) -> None:
    folder = train(tmp_path / "llama", **PLAIN)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(vocab_size=400, num_attention_heads=4, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    with load_model(folder) as model:
        for text in ("**Alice [1]:** ", " a\n\n", "你"):
            assert model.decode([*model.encode("."), *model.encode(text)]) == f".{text}"


def test_a_model_that_normalizes_newlines_away_is_refused(tmp_path: Path) -> None:
    folder = train(tmp_path / "t5", model_type="unigram", pad_id=3)
    loaded: Any = transformers
    with pytest.raises(ModelError, match=r"cannot write '\\n'"):
        check_tokenizer(loaded.T5Tokenizer.from_pretrained(folder), "t5")
