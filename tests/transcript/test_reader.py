"""read_transcript: one clear sentence for whatever a file is, and never another exception."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hogwild_agents.errors import TranscriptError
from hogwild_agents.transcript import read_transcript
from tests.transcript.sample import EVENTS, RESULT, write_sample


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a whole transcript."""
    path = tmp_path_factory.mktemp("whole") / "t.jsonl"
    write_sample(path)
    return path.read_bytes()


def refusal(path: Path, data: bytes, *, allow_partial: bool = False) -> str:
    """What is said of a file with these bytes; one or two sentences that name it."""
    path.write_bytes(data)
    with pytest.raises(TranscriptError) as caught:
        read_transcript(path, allow_partial=allow_partial)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def change(data: bytes, line: int, **changes: Any) -> bytes:
    """The transcript with some fields of a line changed; ``...`` drops one."""
    rows = data.splitlines()
    values = {**json.loads(rows[line - 1]), **changes}
    kept = {name: value for name, value in values.items() if value is not ...}
    rows[line - 1] = json.dumps(kept).encode()
    return b"\n".join(rows) + b"\n"


def test_a_whole_transcript_is_read(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(whole)
    transcript = read_transcript(path)
    assert list(transcript.events()) == list(EVENTS)
    assert transcript.result == RESULT
    assert read_transcript(str(path), allow_partial=True) == transcript


def test_a_cut_at_any_byte_is_a_transcript_error(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(whole)
    lines = read_transcript(path).lines
    header = whole.index(b"\n")
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        with pytest.raises(TranscriptError, match="cut short" if length >= header else "t.jsonl"):
            read_transcript(path)
        if length < header:
            with pytest.raises(TranscriptError):
                read_transcript(path, allow_partial=True)
            continue
        found = read_transcript(path, allow_partial=True)
        ends_line = whole[length : length + 1] == b"\n"
        assert found.lines == lines[: whole.count(b"\n", 0, length) - 1 + ends_line]
        assert found.result == (RESULT if length == len(whole) - 1 else None)


def test_a_cut_file_says_where_and_what_to_do(tmp_path: Path, whole: bytes) -> None:
    message = refusal(tmp_path / "t.jsonl", b"\n".join(whole.split(b"\n")[:4]) + b"\n")
    assert "cut short in or after its line 4" in message
    assert "allow_partial=True" in message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match=r"There is no transcript '.*no.jsonl': check"):
        read_transcript(tmp_path / "no.jsonl")
    with pytest.raises(TranscriptError, match=r"cannot be read \(Is a directory\)"):
        read_transcript(tmp_path)
    with pytest.raises(TranscriptError, match="cannot be read"):
        read_transcript("t\0.jsonl")


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\n", "Line 1 .* is no header"),
        (b"hello\n", "Line 1 .* not JSON"),
        (b"\x00\xff\xfe" * 50, "Line 1 .* not JSON"),
        (b"\xef\xbb\xbf{}\n", "Line 1 .* not JSON"),
        (b"[" * 100_000, "Line 1 .* not JSON"),
        (b"[1, 2]\n", "Line 1 .* is no header"),
        (b'{"type": "tick"}\n', 'does not say "format": "hogwild-transcript"'),
        (b'{"format": "csv", "version": 1}\n', 'does not say "format": "hogwild-transcript"'),
    ],
)
def test_a_file_that_is_none_is_told(
    tmp_path: Path, data: bytes, says: str, allow_partial: bool
) -> None:
    message = refusal(tmp_path / "t.jsonl", data, allow_partial=allow_partial)
    assert re.search(says, message)


@pytest.mark.parametrize(
    ("line", "changes", "says"),
    [
        (1, {"version": 3, "package": "3.1"}, r"says version 3, .* reads up to version 2: .* 3\.1"),
        (1, {"version": 0}, "no header of version 2"),
        (1, {"version": "1"}, "no header of version 2"),
        (1, {"mood": "good"}, "unknown field 'mood'"),
        (1, {"seed": ...}, "lacks the field 'seed'"),
        (1, {"limits": {"ticks": 1, "tokens": 1, "seconds": 1, "x": 1}}, "field 'limits.x'"),
        (2, {"type": "blob"}, "Line 2 .* type is unknown"),
        (2, {"type": ...}, "Line 2 .* has no type"),
        (2, {"id": "0"}, "Line 2 .* 'block.id' is '0'"),
        (2, {"id": -1}, "Line 2 .* 'block.id' is -1"),
        (2, {"id": 9}, "Line 3 .* no block line has the id 0"),
        (4, {"id": 0}, "Line 4 .* the block 0 is there already"),
        (3, {"feeds": [{"block": 0}]}, "Line 3 .* lacks the field 'tick.feeds.0.view'"),
        (3, {"moves": [[0, 1, 2]]}, "Line 3 .* 'tick.moves.0"),
        (3, {"moves": [[0, 7]]}, "Line 3 .* no block line has the id 7"),
        (7, {"tick": 0}, "Line 7 .* tick 0 comes after tick 1"),
        (9, {"colour": "red"}, "Line 9 .* unknown field 'tokens_written.colour'"),
        (9, {"tokens": [1.5]}, "Line 9 .* 'tokens_written.tokens.0' is 1.5"),
        (14, {"action": {"kind": "dance"}}, "Line 14 .* type is unknown"),
    ],
)
def test_a_damaged_line_is_told(
    tmp_path: Path, whole: bytes, line: int, changes: dict[str, Any], says: str
) -> None:
    path = tmp_path / "t.jsonl"
    for allow_partial in (False, True):
        message = refusal(path, change(whole, line, **changes), allow_partial=allow_partial)
        assert re.search(says, message)


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({"view": [0, 1]}, "the view ends in 1, not in the written block 0"),
        ({"view": []}, "'tick.feeds.0.view'"),
        ({"view": [0, [0, 0]]}, "'tick.feeds.0.view.1"),
        ({"tokens": [1]}, "1 tokens have 3 sources"),
        ({"tokens": []}, "'tick.feeds.0.tokens'"),
        ({"sources": "sfx"}, "'tick.feeds.0.sources' is 'sfx'"),
    ],
)
def test_a_damaged_feed_is_told(
    tmp_path: Path, whole: bytes, feed: dict[str, Any], says: str
) -> None:
    values = {"block": 0, "view": [0], "tokens": [1, 2, 3], "sources": "fff", **feed}
    message = refusal(tmp_path / "t.jsonl", change(whole, 3, feeds=[values]))
    assert "Line 3" in message
    assert says in message


def test_nothing_may_follow_the_end(tmp_path: Path, whole: bytes) -> None:
    for allow_partial in (False, True):
        again = whole + whole.splitlines()[-1] + b"\n"
        message = refusal(tmp_path / "t.jsonl", again, allow_partial=allow_partial)
        assert "comes after the run_ended line" in message
    blank = whole.replace(b"\n", b"\n\n", 1)
    assert "Line 2" in refusal(tmp_path / "t.jsonl", blank)


@given(data=st.data())
def test_damage_anywhere_is_a_transcript_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "t.jsonl"
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 40)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=40)) + whole[stop:])
    for allow_partial in (False, True):
        with suppress(TranscriptError):
            list(read_transcript(path, allow_partial=allow_partial).events())
