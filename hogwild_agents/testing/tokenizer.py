"""ByteTokenizer: one token for each byte, built in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    Base = Any
else:
    Base = PreTrainedTokenizerFast

SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
THINK = ("<think>", "</think>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)


class ByteTokenizer(Base):  # type: ignore[misc]
    """A fast tokenizer of transformers whose token ids 0 to 255 are the bytes of UTF-8.

    Behind them come ``<|end|>`` (the end of a turn), ``<|system|>``, ``<|user|>`` and
    ``<|assistant|>``, and then ``<think>`` and ``</think>``. Its chat template leaves the answer
    inside an open ``<think>``.
    """

    def __init__(self) -> None:
        super().__init__(
            tokenizer_object=_build(),
            eos_token=SPECIAL[0],
            clean_up_tokenization_spaces=False,
            chat_template=CHAT_TEMPLATE,
        )


def _build() -> Tokenizer:
    vocabulary = {character: byte for byte, character in enumerate(_alphabet())}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINK])
    return tokenizer


def _alphabet() -> list[str]:
    """Return the printable character that stands for each byte in byte-level vocabularies."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printable)
    stand_ins = {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [stand_ins.get(byte, chr(byte)) for byte in range(256)]
