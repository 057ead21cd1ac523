"""GrowingText: wrapping bit by bit gives what wrapping at once gives."""

from __future__ import annotations

from hypothesis import given, strategies as st

from hogwild_agents.cli.wrap import GrowingText

PIECES = st.lists(st.text(alphabet=st.sampled_from("ab  \n中é—x"), max_size=12), max_size=12)


def lines_of(pieces: list[str], width: int) -> list[str]:
    growing = GrowingText()
    for piece in pieces:
        growing.append(piece, "")
    return [line.plain for line in growing.lines(width)]


@given(PIECES, st.integers(2, 20))
def test_growing_equals_wrapping_at_once(pieces: list[str], width: int) -> None:
    growing = GrowingText()
    for piece in pieces:
        growing.append(piece, "")
        growing.lines(width)
    assert [line.plain for line in growing.lines(width)] == lines_of(["".join(pieces)], width)


@given(PIECES, st.integers(2, 20), st.integers(2, 20))
def test_width_may_change_at_any_time(pieces: list[str], before: int, after: int) -> None:
    growing = GrowingText()
    for piece in pieces:
        growing.append(piece, "")
    growing.lines(before)
    assert [line.plain for line in growing.lines(after)] == lines_of(pieces, after)


@given(PIECES, st.integers(2, 20))
def test_nothing_is_lost_and_nothing_too_wide(pieces: list[str], width: int) -> None:
    growing = GrowingText()
    for piece in pieces:
        growing.append(piece, "")
    lines = growing.lines(width)
    for line in lines:
        line.rstrip()
        assert line.cell_len <= width
    written = "".join("".join(pieces).split())
    assert "".join("".join(line.plain.split()) for line in lines) == written


def test_words_are_kept_whole() -> None:
    assert lines_of(["one two ", "three", "four five"], 9) == ["one two", "threefour", " five"[1:]]
    assert lines_of(["abcdefghijk l"], 4) == ["abcd", "efgh", "ijk", "l"]
    assert lines_of(["a\n\nb"], 10) == ["a", "", "b"]


def test_styles_stay_with_their_text() -> None:
    growing = GrowingText()
    growing.append("forced ", "italic")
    growing.append("sampled", "")
    first, second = growing.lines(8)
    assert (first.plain, str(first.spans[0].style)) == ("forced", "italic")
    assert second.plain == "sampled"
    assert not [span for span in second.spans if span.style]
