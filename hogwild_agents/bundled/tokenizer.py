"""The bundled model's tokenizer: a few hundred whole words, and bytes for everything else.

It is a byte-level BPE without merges: a regular expression cuts the text, pieces that stand in
the vocabulary are taken whole (``ignore_merges``), all else falls to single bytes. So any text
round-trips exactly, and the strings that the runtime writes are few tokens each.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from hogwild_agents.bundled.task import LABELS, MAX_VALUE

# What the runtime writes around the workers' own text.
PAST = "### Past steps\n\n"
OTHERS = "### Work in progress (others)\n\n"
OWN = "### Work in progress (own)\n\n"
OPEN = " <...>\n\n"
CHECK = "Quick check: am I doing redundant work? (yes/no): "
FINISHER = (
    "\n\nWait, given the limited time, I have to give an answer right now. Considering all my "
    "previous attempts, I have to conclude that the final answer is \\boxed{"
)

# What a worker writes.
STEP_END = ".\n\n"
IDLE = " ..."
TAKEN = " taken"
BOX = "\\boxed{"
BOX_END = "}"
YES, NO = "yes. ", "no. "
UNKNOWN = "?"

USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
THINK, THINK_END = "<think>", "</think>"

NAMES = (
    "Alice Bob Carol Dave Erin Frank Grace Heidi Ivan Judy Kevin Laura Mallory Niaj Olivia Peggy "
    "Quentin Rupert Sybil Trent Uma Victor Walter Xavier Yvonne Zoe Ada Ben Clara David Emma "
    "Felix Hugo Iris Jack Kate Leo Mia Noah Oscar"
).split()
STEP_NUMBERS = 40

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_PHRASES = (
    PAST,
    OTHERS,
    OWN,
    OPEN,
    "Quick check:",
    " am I doing redundant work?",
    " (yes/no): ",
    "\n\nWait,",
    " given the limited time,",
    " I have to give an answer right now.",
    " Considering all my previous attempts,",
    " I have to conclude that the final answer is ",
    BOX,
    "Tasks:",
    STEP_END,
    IDLE,
    TAKEN,
    YES,
    NO,
    ", ?",
    " +",
    " -",
    " =",
    "**",
    "\n\n",
)


def prefix(name: str, number: int) -> str:
    """What opens a step of a worker."""
    return f"**{name} [{number}]:** "


def role(name: str, text: str) -> str:
    """What stands in the private block of a worker with a role."""
    return f"### My role\n\nI am {name}. {text}\n\n"


def pieces() -> list[str]:
    """The words of the vocabulary beyond single bytes, in the order of their ids."""
    words = list(_PHRASES)
    words += [f"{before}{label})" for before in ("", " ") for label in LABELS]
    words += [f"{before}{v}" for before in ("", " ", ", ") for v in range(MAX_VALUE + 1)]
    words += [f" [{number}]:** " for number in range(1, STEP_NUMBERS + 1)]
    words += NAMES
    return [word for word in words if len(word) > 1]


def build_tokenizer() -> Tokenizer:
    """The tokenizer, made from the words above."""
    alphabet = _byte_alphabet()
    words = [alphabet[byte] for byte in range(256)]
    words += ["".join(alphabet[byte] for byte in word.encode()) for word in pieces()]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = Sequence(
        [
            Split(Regex(_pattern()), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = ByteLevelDecoder()
    for token in (USER, ASSISTANT, END, PAD):
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    for token in (THINK, THINK_END):
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer so that plain ``AutoTokenizer.from_pretrained(folder)`` loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _pattern() -> str:
    """The words as one regular expression, longest first; numbers and names need neighbours."""
    phrases = "|".join(re.escape(word) for word in sorted(_PHRASES, key=len, reverse=True))
    numbers = r"(?:, | |(?<!\d))(?:30|[12]\d|\d)(?!\d)"
    labels = rf" ?(?<![a-z])[{LABELS}]\)"
    steps = r" \[(?:40|[123]\d|[1-9])\]:\*\* "
    names = rf"(?<=\*\*)(?:{'|'.join(NAMES)})(?= \[)"
    return "|".join((phrases, steps, names, labels, numbers, r"[\s\S]"))


def _byte_alphabet() -> list[str]:
    """The printable character by which byte-level BPE writes each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in characters)
    characters.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return [characters[byte] for byte in range(256)]
