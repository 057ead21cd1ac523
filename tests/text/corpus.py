"""What the tokenizers of the tests are trained on, and how trained ones are taken apart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, trainers

CORPUS = [
    "Alice says hello to Bob. Bob says hello to Alice.\n\nThen both think.\n\n",
    "**Alice [1]:** 7 + 1 = 8.\n\n### Past steps\n\n**Bob [2]:** No! Why?\n\n\nSo it is.\n\n",
    "Größe, naïve, 你好。\n\n今天天气。 日本語。 привет мир. 💔🙂👩‍🚀",
    "print('a')  # note\n## Title\n    indented\n\n\n\nend.\n\n*** a\tb",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>"]


def train_bpe(
    tokenizer: Tokenizer, texts: Iterable[str], size: int, alphabet: Iterable[str] = ()
) -> None:
    """Train a BPE tokenizer in a moment."""
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=list(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)


def state_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer as its file has it."""
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    return state


def with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The same BPE tokenizer, with the 256 byte tokens of a byte fallback in its vocabulary."""
    state = state_of(tokenizer)
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    state["model"]["byte_fallback"] = True
    state["model"]["unk_token"] = "<unk>"
    return Tokenizer.from_str(json.dumps(state))
