r"""What a worker writes, token by token: its text, its steps and the ids that are fed agree.

No model is run: tokens are drawn from the whole vocabulary, halves of characters and tokens that
go on behind ``\n\n`` among them, with forced text and forced ends of steps in between.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import example, given, settings, strategies as st

from hogwild_agents.board import Board, Place
from hogwild_agents.draft import Draft, Piece, Written
from hogwild_agents.engine import Feed
from hogwild_agents.layouts import Combined, Headings, Isolated
from hogwild_agents.models import LanguageModel
from hogwild_agents.steps import step_end
from hogwild_agents.text import decode_continuation
from tests.text.kinds import (
    ANY_TEXT,
    PythonTokenizer,
    long_tokens,
    python_pieces,
    tokenizer_of,
)

WHOLE_BYTES = tuple(kind for kind in ANY_TEXT if kind != "python")
"""Those whose every byte has a token, so that any token can be cut."""
SAID = ["Wait, ", "\n\nSo ", " </s>", "你", "é.", "a\n", "Done.\n\nNext: ", "# "]
TYPED = [
    "a.\n\n",
    "So it is.\n\n\n\nThen",
    "你好。\n\n",
    "No!\n",
    "\n",
    "\n\n",
    "💔",
    "```\na.\n\n",
]


class Block:
    """A block that only knows its tokens."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)


class Desk:
    """One worker that writes what it is told to, and feeds it."""

    def __init__(self, tokenizer: Any, *, moves: bool, headings: Headings | None = None) -> None:
        self.tokenizer = tokenizer
        self.blocks = [Block()]
        self.pieces: list[Piece] = []
        self.ended: list[tuple[int, str]] = []
        self.odd: set[int] = set()  # steps that hold what was not sampled for them
        self.sampled: list[int] = []
        place = Place("Alice", self.block())
        names = ("prompt", "past", "others", "own", "unfinished", "history")
        board = Board(**{name: cast(Any, Block()) for name in names}, places=[place])
        model = LanguageModel(name="none", engine=cast(Any, None), tokenizer=tokenizer)
        layout = Combined() if moves else Isolated()
        self.draft = Draft(place, board, layout, headings or Headings(), model, self.new_block)
        self.pieces.append(self.draft.open_step())

    def block(self) -> Any:
        return self.blocks[-1]

    def new_block(self, name: str) -> Any:
        self.blocks.append(Block())
        return self.block()

    def sample(self, token: int) -> None:
        self.sampled.append(token)
        self.note(self.draft.sample(token))

    def note(self, written: Written) -> None:
        self.pieces += [written.piece, *written.opening]
        if written.ended is not None:
            self.ended.append((written.piece.step, written.ended))
        if "\n\n" in "".join(piece.text for piece in written.opening[1:]):
            self.odd.add(self.draft.step)
        self.feed()

    def say(self, text: str) -> None:
        held = self.draft.text
        piece = self.draft.force(text)
        assert piece.text.lstrip("\ufffd") == text
        assert self.draft.text == held + piece.text
        self.odd.add(self.draft.step)
        self.pieces.append(piece)

    def end_step(self) -> None:
        if self.draft.begun:
            self.odd.add(self.draft.step)
            self.note(self.draft.end_step())

    def feed(self) -> None:
        feeds, _ = self.draft.feeds(None)
        for feed in feeds:
            cast(Any, feed.block).tokens += feed.tokens
        self.draft.committed([Feed(feed.block, [feed.block], feed.tokens) for feed in feeds])
        self.draft.place.closing = None

    def reads(self, ids: list[int]) -> str:
        return decode_continuation(self.tokenizer, ids)


ACTS = st.one_of(
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.sampled_from(TYPED),
    st.sampled_from(SAID).map(lambda text: ("say", text)),
    st.just("end"),
)


def perform(kind: str, acts: list[Any], *, moves: bool = True) -> Desk:
    """Let a worker write; numbers are tokens of the vocabulary, texts are typed."""
    tokenizer: Any = tokenizer_of(kind)
    ids = sorted(set(tokenizer.get_vocab().values()))
    desk = Desk(tokenizer, moves=moves)
    for act in acts:
        if isinstance(act, int):
            desk.sample(ids[act % len(ids)])
        elif act == "end":
            desk.end_step()
        elif isinstance(act, tuple):
            desk.say(act[1])
        else:
            for token in tokenizer.encode(act, add_special_tokens=False):
                desk.sample(token)
    desk.feed()
    return desk


@pytest.mark.parametrize("kind", ANY_TEXT)
@settings(max_examples=30)
@given(acts=st.lists(ACTS, max_size=14), moves=st.booleans())
def test_text_is_what_the_ids_of_the_blocks_decode_to(
    kind: str, acts: list[Any], moves: bool
) -> None:
    desk = perform(kind, acts, moves=moves)
    draft = desk.draft
    assert "".join(piece.text for piece in desk.pieces) == draft.text
    texts = [text for _, text in desk.ended] + [draft.step_text]
    assert "".join(texts) == draft.text
    if not moves:
        texts = [draft.text]
    assert len(desk.blocks) == len(texts)
    for block, text in zip(desk.blocks, texts, strict=True):
        written = desk.reads(block.tokens)
        if block is desk.block():  # its last character may be incomplete
            assert written.startswith(text)
            assert written.rstrip("\ufffd") == text.rstrip("\ufffd")
        else:
            assert written == text
    fed = [token for block in desk.blocks for token in block.tokens]
    assert fed == [token for piece in desk.pieces for token in piece.tokens]


@pytest.mark.parametrize("kind", ANY_TEXT)
@settings(max_examples=30)
@given(acts=st.lists(ACTS, max_size=14))
@example(acts=[97, 477])  # a stray byte, then ``。\n\n`` and more in one token
def test_a_step_ends_exactly_where_its_separator_does(kind: str, acts: list[Any]) -> None:
    desk = perform(kind, acts)
    for step, text in desk.ended:
        assert text.endswith("\n\n")
        if step not in desk.odd and kind in WHOLE_BYTES:
            assert step_end(text) == len(text)
    if desk.draft.step not in desk.odd:
        assert step_end(desk.draft.step_text) is None


SAMPLED = st.one_of(st.integers(0, 10_000), st.sampled_from(TYPED))


@pytest.mark.parametrize("kind", WHOLE_BYTES)
@settings(max_examples=30)
@given(acts=st.lists(SAMPLED, max_size=14))
def test_the_steps_together_are_all_that_was_sampled(kind: str, acts: list[Any]) -> None:
    desk = perform(kind, acts)
    whole = desk.reads(desk.sampled)
    texts = [*desk.ended, (desk.draft.step, desk.draft.step_text)]
    bodies = [text.removeprefix(f"**Alice [{step}]:** ") for step, text in texts]
    assert "".join(bodies).rstrip("\ufffd") == whole.rstrip("\ufffd")


# -- how the separator may be spelt


def typed(tokenizer: Any, tokens: list[int]) -> tuple[list[str], str]:
    """The bodies of the steps that some sampled tokens make, and what is left."""
    desk = Desk(tokenizer, moves=True)
    for token in tokens:
        desk.sample(token)
    bodies = [text.removeprefix(f"**Alice [{step}]:** ") for step, text in desk.ended]
    return bodies, desk.draft.step_text.removeprefix(f"**Alice [{desk.draft.step}]:** ")


@pytest.mark.parametrize(
    ("tokens", "steps", "left"),
    [
        (["A.", "\n\n", "B"], ["A.\n\n"], "B"),
        (["A.", "\n", "\n", "B"], ["A.\n\n"], "B"),
        (["A.\n", "\nB"], ["A.\n\n"], "B"),
        (["A", ".\n\n", "B"], ["A.\n\n"], "B"),
        (["A.", "\n\n**Al", "ice"], ["A.\n\n"], "**Alice"),
        # newlines of the token that completes the separator belong to it, later ones do not
        (["A.", "\n\n\n", "B"], ["A.\n\n\n"], "B"),
        (["A.", "\n", "\n\n", "B"], ["A.\n\n\n"], "B"),
        (["A.", "\n\n\n\n\nB"], ["A.\n\n\n\n\n"], "B"),
        (["A.", "\n\n", "\n", "B"], ["A.\n\n"], "\nB"),
        (["A.", "\n", "\n", "\n", "\n", "B."], ["A.\n\n"], "\n\nB."),
        (["A.", "\n\n", "\n\n", "B.", "\n\n"], ["A.\n\n", "\n\nB.\n\n"], ""),
        # of two separators in one token the first one counts
        (["A.\n\nB.\n\nC", "."], ["A.\n\n"], "B.\n\nC."),
        (["A.\n\nB.\n\nC.\n\n", "D.", "\n\n"], ["A.\n\n", "B.\n\nC.\n\nD.\n\n"], ""),
        # only behind a sentence, and outside of code
        (["A", "\n\n", "B.", "\n\n"], ["A\n\nB.\n\n"], ""),
        (["```\n", "A.\n\n", "B\n```\n", "C.\n\n"], ["```\nA.\n\nB\n```\nC.\n\n"], ""),
    ],
)
def test_where_a_step_ends_however_the_separator_is_spelt(
    tokens: list[str], steps: list[str], left: str
) -> None:
    tokenizer, ids = long_tokens(*(token.encode() for token in tokens))
    assert typed(tokenizer, ids) == (steps, left)


@pytest.mark.parametrize("kind", ANY_TEXT)
@pytest.mark.parametrize("separator", ["\n\n", "\n\n\n", "\n\n\n\n\n"])
def test_a_separator_as_the_tokenizer_writes_it_ends_the_step(kind: str, separator: str) -> None:
    tokenizer: Any = tokenizer_of(kind)
    model = LanguageModel(name="none", engine=cast(Any, None), tokenizer=tokenizer)
    bodies, left = typed(tokenizer, model.encode(f"So it is.{separator}Then"))
    assert bodies[0].startswith("So it is.\n\n")
    assert bodies[0] + left == f"So it is.{separator}Then"
    assert left.lstrip("\n") == "Then"


def test_a_character_that_is_cut_by_the_separator_goes_on_in_the_next_step() -> None:
    tokenizer, ids = long_tokens(b"A.\n\n\xe4", b"\xbd\xa0")
    assert typed(tokenizer, ids) == (["A.\n\n"], "你")


def test_a_token_that_completes_a_character_ends_the_step_behind_it() -> None:
    tokenizer, ids = long_tokens(b"A\xe3", b"\x80\x82\n\nThen")
    assert typed(tokenizer, ids) == (["A。\n\n"], "Then")


@pytest.mark.parametrize("broken", [b"\xa1", b"\xe4", b"\xa1\xe4", b"\xe4\xe4", b"\xff"])
def test_broken_characters_before_a_token_keep_nothing_after_the_separator(broken: bytes) -> None:
    tokenizer, [half, token] = long_tokens(broken, "é.\n\n你.\n\nThen".encode())
    wrong = broken.decode(errors="replace")
    assert typed(tokenizer, [half, token]) == ([f"{wrong}é.\n\n"], "你.\n\nThen")


def test_half_a_character_that_cannot_be_cut_off_ends_with_its_step() -> None:
    pieces = [piece for piece in python_pieces() if len(piece) > 1 or piece.isascii()]
    tokenizer = PythonTokenizer([*pieces, b"A.\n\n\xe4", b"\xbd\xa1"])
    tokens = [len(pieces), len(pieces) + 1, pieces.index(b"a")]
    assert typed(tokenizer, tokens[:1]) == (["A.\n\n\ufffd"], "")
    assert typed(tokenizer, tokens) == (["A.\n\n\ufffd"], "\ufffd\ufffda")


@pytest.mark.parametrize("kind", ANY_TEXT)
def test_a_blank_at_the_beginning_of_a_prefix_stays(kind: str) -> None:
    headings = Headings(prefix=" {name}: ", own="")
    desk = Desk(tokenizer_of(kind), moves=True, headings=headings)
    assert [piece.text for piece in desk.pieces] == [" Alice: "]
    assert desk.draft.text == " Alice: "


def test_half_a_character_is_told_with_what_follows_it_or_with_the_end_of_its_step() -> None:
    tokenizer, [half] = long_tokens(b"A\xe4")
    desk = Desk(tokenizer, moves=True)
    desk.sample(half)
    assert desk.draft.step_text == "**Alice [1]:** A"
    desk.say("Wait")
    assert desk.pieces[-1].text == "\ufffdWait"
    desk.sample(half)
    desk.end_step()
    assert desk.ended == [(1, "**Alice [1]:** A\ufffdWaitA\ufffd\n\n")]
    assert desk.reads(desk.blocks[0].tokens) == desk.ended[0][1]


def test_newlines_behind_a_broken_character_are_newlines() -> None:
    tokenizer: Any = tokenizer_of("llama 2")
    word, *rest = (
        tokenizer.convert_tokens_to_ids(token) for token in ("e", ".", "<0xE4>", "<0x0A>", "<0x0A>")
    )
    stop, half, *newlines = rest
    assert typed(tokenizer, [word, stop, half, *newlines]) == ([], "e.\ufffd\n\n")
    assert typed(tokenizer, [half, word, stop, *newlines]) == (["\ufffde.\n\n"], "")
