"""One small tokenizer of each kind that real models have, trained on the spot.

These are built from parts; ``families.py`` has those that transformers makes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.text.corpus import CORPUS, SPECIAL, train_bpe, with_bytes
from tests.text.families import FAMILIES


def byte_level(*, cut: str | None, size: int = 420) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as Llama 3, Qwen and GPT have it.

    ``cut`` is where the text is cut before merging; None cuts nowhere, so that tokens such as
    ``".\n\nThen"`` arise.
    """
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if cut is None:
        tokenizer.pre_tokenizer = whole
    else:
        split = pre_tokenizers.Split(Regex(cut), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, whole])
    tokenizer.decoder = decoders.ByteLevel()
    train_bpe(tokenizer, CORPUS, size, pre_tokenizers.ByteLevel.alphabet())
    return wrap(tokenizer)


def sentencepiece_bpe(*, prefix: bool) -> PreTrainedTokenizerFast:
    """SentencePiece-like BPE with byte fallback: Llama 2 and Phi-3 (with a prefix), or Gemma.

    A newline is the byte token ``<0x0A>``, so ``"\n\n"`` is two tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    texts = [text.replace("\n", " ").replace("💔", " ") for text in CORPUS]
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    train_bpe(tokenizer, texts, 220)
    tokenizer = with_bytes(tokenizer)
    chain: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        chain.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(chain)
    return wrap(tokenizer)


def unigram() -> PreTrainedTokenizerFast:
    """Unigram with a metaspace, as T5 and ALBERT have it; newlines are ordinary characters."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrap(tokenizer)


def unigram_with_bytes() -> PreTrainedTokenizerFast:
    """Unigram with byte fallback."""
    words = ["▁", "▁a", "a", "b", ".", "\n\n", "▁hello", "▁to", "你"]
    pieces = [*SPECIAL, *words, *(f"<0x{byte:02X}>" for byte in range(256))]
    scored = [(piece, -float(index)) for index, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
    )
    return wrap(tokenizer)


def word_piece() -> PreTrainedTokenizerFast:
    """WordPiece: ``##`` marks what continues a word, and is no text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrap(tokenizer)


def word_suffix() -> PreTrainedTokenizerFast:
    """BPE whose tokens end a word by ``</w>``: a blank comes only with the next token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=260, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrap(tokenizer)


def whole_words() -> PreTrainedTokenizerFast:
    """Whole words and no decoder: tokens are joined by blanks."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrap(tokenizer)


class PythonTokenizer(PreTrainedTokenizer):
    """A tokenizer without the ``tokenizers`` library; each piece of its vocabulary is bytes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = {piece.decode("latin-1"): index for index, piece in enumerate(pieces)}
        self.spellings = dict(enumerate(self.pieces))
        untyped: Any = super().__init__
        untyped(eos_token="</s>", bos_token="<s>")

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def get_vocab(self) -> dict[str, int]:
        return self.pieces | self.added_tokens_encoder

    def _tokenize(self, text: Any, **options: Any) -> list[str]:
        return [chr(byte) for byte in text.encode()]

    def _convert_token_to_id(self, token: str) -> int:
        return self.pieces[token]

    def _convert_id_to_token(self, index: int) -> str:
        return self.spellings[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).encode("latin-1", "replace").decode("utf-8", "replace")


class StrippingTokenizer(PythonTokenizer):
    """One that strips the text it decodes, so that a blank comes only with the next token."""

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return super().convert_tokens_to_string(tokens).strip()


def python_pieces() -> list[bytes]:
    joined = ["你".encode()[1:], "。\n\n".encode(), b"\xb8 a", b"hello", b" # ", b"\n\n", b".\n\n"]
    return [*(bytes([byte]) for byte in range(256)), *joined]


def letters_of(data: bytes) -> list[str]:
    """The letters by which byte-level vocabularies spell bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [letters.get(byte, chr(byte)) for byte in data]


def long_tokens(*pieces: bytes) -> tuple[Any, list[int]]:
    """A byte-level tokenizer of single bytes that has some tokens more, and their ids."""
    spelt = ["".join(letters_of(piece)) for piece in pieces]
    pieces_of_all = [*letters_of(bytes(range(256))), *spelt]
    vocabulary = {letter: index for index, letter in enumerate(dict.fromkeys(pieces_of_all))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return wrap(backend), [vocabulary[spelling] for spelling in spelt]


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    untyped: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = untyped(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    return made


_LETTERS = r"\p{L}+|\p{N}| |[^\p{L}\p{N} \n]+"

MAKERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "byte level, newlines join": lambda: byte_level(cut=rf"{_LETTERS}|\n+"),
    "byte level, newlines alone": lambda: byte_level(cut=rf"{_LETTERS}|\n"),
    "byte level, anything joins": lambda: byte_level(cut=None, size=600),
    "byte level, bytes only": lambda: byte_level(cut=r"[\s\S]", size=259),
    "sentencepiece with prefix": lambda: sentencepiece_bpe(prefix=True),
    "sentencepiece": lambda: sentencepiece_bpe(prefix=False),
    "unigram": unigram,
    "unigram with bytes": unigram_with_bytes,
    "word piece": word_piece,
    "word suffix": word_suffix,
    "whole words": whole_words,
    "python": lambda: PythonTokenizer(python_pieces()),
    "python, stripping": lambda: StrippingTokenizer(python_pieces()),
    **FAMILIES,
}
KINDS = tuple(MAKERS)
ANY_TEXT = tuple(
    kind
    for kind in KINDS
    if kind in FAMILIES or kind.startswith(("byte level", "sentencepiece")) or kind == "python"
)
"""Those that can write any text exactly."""


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    """One tokenizer of a kind; made once."""
    return MAKERS[kind]()


def id_of(tokenizer: PreTrainedTokenizerBase, piece: str) -> int:
    """The id of one piece of the vocabulary."""
    return tokenizer.get_vocab()[piece]
