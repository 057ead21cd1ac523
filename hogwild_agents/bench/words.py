"""Words: a tokenizer with a word for every token id, whatever the size of the vocabulary."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from hogwild_agents.errors import ConfigError

SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<think>", "</think>")
STEP = 256
"""One word in so many ends a step, so that random workers write steps of about this length."""
_TEMPLATE = (
    "{% for message in messages %}{{ '<|user|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{{ '<|assistant|><think>\n' }}"
)


def word_tokenizer(size: int) -> Any:
    """Return a fast tokenizer of ``size`` ids: the bytes, then words that it never encodes to.

    Raises:
        ConfigError: the vocabulary is too small.
    """
    alphabet = sorted(ByteLevel.alphabet())
    if size < len(alphabet) + len(SPECIAL):
        raise ConfigError(f"A vocabulary of {size} tokens has no room for the 256 bytes.")
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    for number in range(len(alphabet), size - len(SPECIAL)):
        vocabulary[f"Ġw{number}" + (".ĊĊ" if number % STEP == 0 else "")] = number
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    untyped: Any = PreTrainedTokenizerFast
    return untyped(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[0],
        clean_up_tokenization_spaces=False,
        chat_template=_TEMPLATE,
    )
