r"""Tokenizers of the families that real models have, of transformers' own classes if there are any.

Their vocabularies are trained on the spot. What differs is what makes texts go wrong: where blanks
stand, which blank vanishes at the beginning, whether ``\n\n`` is one token, two bytes or part of a
longer token, and what a normalizer changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.text.corpus import CORPUS, SPECIAL, state_of, train_bpe, with_bytes

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = pre_tokenizers.ByteLevel.alphabet()
_CONTROL = {"<unk>": "unk_token", "<s>": "bos_token", "</s>": "eos_token"}
_NAMES: dict[str, Any] = {name: token for token, name in _CONTROL.items()}


def _class(name: str) -> Any:
    return getattr(transformers, name)


@cache
def _byte_level_parts(pattern: str | None) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE; the pattern is GPT-2's if None is given."""
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    if pattern is None:
        tokenizer.pre_tokenizer = whole
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, whole])
    train_bpe(tokenizer, CORPUS, 440, _BYTES)
    return _parts(tokenizer)


@cache
def _marked_parts() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a SentencePiece-like BPE with bytes; a newline is a byte."""
    tokenizer = Tokenizer(models.BPE())
    texts = [text.replace("\n", " ").replace("💔", " ") for text in CORPUS]
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    train_bpe(tokenizer, texts, 240)
    return _parts(with_bytes(tokenizer))


def _parts(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = state_of(tokenizer)["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def gpt2(*, prefix: bool) -> Any:
    """GPT-2: newlines stand apart from words; with a prefix, a blank opens every text."""
    vocabulary, merges = _byte_level_parts(None)
    return _class("GPT2Tokenizer")(
        vocab=vocabulary, merges=merges, add_prefix_space=prefix, **_NAMES
    )


def llama3() -> Any:
    """Llama 3: ``.\n\n`` and runs of newlines are tokens, and a BOS opens all texts."""
    vocabulary, merges = _byte_level_parts(_LLAMA3)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_LLAMA3), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), begin])
    return _class("PreTrainedTokenizerFast")(tokenizer_object=tokenizer, **_NAMES)


def qwen2() -> Any:
    """Qwen 2 and 3: composes characters (NFC), and has control tokens that are not special."""
    module = transformers.models.qwen2.tokenization_qwen2
    vocabulary, merges = _byte_level_parts(module.PRETOKENIZE_REGEX)
    tokenizer = _class("Qwen2Tokenizer")(vocab=vocabulary, merges=merges, **_NAMES)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "</think>")])
    return tokenizer


def llama2(*, prefix: bool = True, legacy: bool = False) -> Any:
    """Llama 2: newlines are bytes; a blank opens a text (legacy: each part of it) and vanishes."""
    vocabulary, merges = _marked_parts()
    return _class("LlamaTokenizer")(
        vocab=vocabulary, merges=merges, add_prefix_space=prefix, legacy=legacy, **_NAMES
    )


def gemma() -> Any:
    """Gemma: no blank before texts; runs of newlines, and of blanks, are added tokens."""
    vocabulary, merges = _marked_parts()
    tokenizer = _class("GemmaTokenizer")(
        vocab={**vocabulary, "<pad>": len(vocabulary), "<mask>": len(vocabulary) + 1},
        merges=merges,
        **_NAMES,
    )
    runs = ["\n" * count for count in range(1, 8)] + ["▁" * count for count in range(2, 5)]
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in [*runs, "<table>"]])
    return tokenizer


def marked_without_split() -> Any:
    r"""As Gemma, but trained on whole texts: tokens such as ``.\n\n**Al`` and ``\n\n▁`` arise."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    texts = [text.replace("💔", " ") for text in CORPUS]
    train_bpe(tokenizer, texts, 400)
    vocabulary, merges = _parts(with_bytes(tokenizer))
    return _class("GemmaTokenizer")(
        vocab={**vocabulary, "<pad>": len(vocabulary), "<mask>": len(vocabulary) + 1},
        merges=merges,
        **_NAMES,
    )


@cache
def _scored_pieces(*, newlines: bool) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    texts = CORPUS if newlines else [text.replace("\n", " ") for text in CORPUS]
    tokenizer.train_from_iterator(texts, trainer)
    return [(piece, score) for piece, score in state_of(tokenizer)["model"]["vocab"]]


def unigram_with_newlines() -> PreTrainedTokenizerFast:
    """Unigram with byte fallback whose pieces hold newlines, as multilingual models have it."""
    pieces = _scored_pieces(newlines=True)
    runs = [("\n" * count, -3.0 - count) for count in range(2, 6)]
    known = {piece for piece, _ in pieces}
    pieces = [*pieces, *(run for run in runs if run[0] not in known)]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")]
    )
    made: PreTrainedTokenizerFast = _class("PreTrainedTokenizerFast")(
        tokenizer_object=tokenizer, **_NAMES
    )
    return made


def t5() -> Any:
    """T5: cuts at all blanks, so that newlines are lost."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), *_scored_pieces(newlines=False)]
    return _class("T5Tokenizer")(vocab=pieces, extra_ids=3)


def xlnet() -> Any:
    """XLNet: loses accents as well."""
    return _class("XLNetTokenizer")(vocab=_scored_pieces(newlines=False))


def bert() -> Any:
    """BERT: lower case, word pieces, blanks around marks."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return _class("BertTokenizer")(vocab=backend.get_vocab())


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "gpt 2": lambda: gpt2(prefix=False),
    "gpt 2, prefix": lambda: gpt2(prefix=True),
    "llama 3": llama3,
    "qwen 2": qwen2,
    "llama 2": llama2,
    "llama 2, legacy": lambda: llama2(legacy=True),
    "llama 2, no prefix": lambda: llama2(prefix=False),
    "gemma": gemma,
    "gemma, anything joins": marked_without_split,
    "unigram with newlines": unigram_with_newlines,
}
"""Those that can write any text."""
LOSSY: dict[str, Callable[[], PreTrainedTokenizerBase]] = {"t5": t5, "xlnet": xlnet, "bert": bert}
"""Those that cannot write a newline."""
