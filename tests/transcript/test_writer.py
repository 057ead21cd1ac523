"""TranscriptWriter: nothing before the first line, whole lines at any time, clear errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hogwild_agents.coordinator import Commit, Move
from hogwild_agents.engine import CacheBlock, Feed
from hogwild_agents.errors import ClosedError, ConfigError, TranscriptError
from hogwild_agents.events import PolicyFailed, TickEnded
from hogwild_agents.transcript import TranscriptWriter, read_transcript
from hogwild_agents.transcript_lines import BlockLine, TickLine
from tests.transcript.sample import make_engine, make_header, write_sample

TICK = TickEnded(tick=1, seconds=0.5, tokens=2)


def test_no_file_before_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("an older one")
    with TranscriptWriter(path):
        pass
    assert path.read_text() == "an older one"
    with TranscriptWriter(tmp_path / "new.jsonl"):
        pass
    assert not (tmp_path / "new.jsonl").exists()


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("an older one\n" * 1000)
    write_sample(path)
    assert read_transcript(path).result is not None


def test_a_file_has_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TranscriptWriter(path) as writer:
        writer.header(make_header())
        content = path.read_bytes()
        with pytest.raises(ConfigError, match=r"t\.jsonl' is being written by another run: wait f"):
            TranscriptWriter(path).header(make_header())
        assert path.read_bytes() == content
        writer.event(TICK)
    write_sample(path)
    assert read_transcript(path).result is not None


def test_what_is_no_file_on_a_disk_has_as_many_writers_as_like() -> None:
    with TranscriptWriter(os.devnull) as one, TranscriptWriter(os.devnull) as other:
        one.header(make_header())
        other.header(make_header())


def test_each_line_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TranscriptWriter(path) as writer:
        writer.header(make_header())
        assert path.read_bytes().count(b"\n") == 1
        writer.event(TICK)
        assert path.read_bytes().endswith(b'"tokens":2}\n')


def test_a_block_line_precedes_the_first_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    blocks = [CacheBlock(name) for name in ("a", "b", "c", "d")]
    a, b, c, d = blocks
    with TranscriptWriter(path) as writer:
        writer.header(make_header())
        feed = Feed(a, (b, b[0:0], a), (1, 2))
        writer.commit("A", Commit(tick=1, seat="A", feeds=(feed,), moves=()), [["sampled"] * 2])
        feed = Feed(a, (d, b, a[1:]), (3,))
        move = Move(source=a, target=c)
        writer.commit("A", Commit(tick=2, seat="A", feeds=(feed,), moves=(move,)), [["forced"]])
    lines = read_transcript(path, allow_partial=True).lines
    assert [line.name if isinstance(line, BlockLine) else "-" for line in lines] == list("ab-dc-")
    ticks = [line for line in lines if isinstance(line, TickLine)]
    assert [feed.view for line in ticks for feed in line.feeds] == [
        (1, (1, 0, 0), 0),
        (2, 1, (0, 0, None)),
    ]
    assert ticks[1].moves == ((0, 3),)


def test_a_block_is_never_taken_for_one_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with make_engine() as engine, TranscriptWriter(path) as writer:
        writer.header(make_header())
        for tick in range(1, 20):  # a freed block's address is soon another's
            block = engine.block(str(tick))
            commit = Commit(tick=tick, seat="A", feeds=(Feed(block, [block], [tick]),), moves=())
            writer.commit("A", commit, [["sampled"]])
            engine.free(block)
            del block, commit
    lines = read_transcript(path, allow_partial=True).lines
    assert [line.id for line in lines if isinstance(line, BlockLine)] == list(range(19))


def test_closing_again_changes_nothing(tmp_path: Path) -> None:
    writer = TranscriptWriter(tmp_path / "t.jsonl")
    writer.header(make_header())
    writer.close()
    writer.close()
    with pytest.raises(ClosedError, match="closed"):
        writer.event(TICK)


def test_the_header_comes_first_and_once(tmp_path: Path) -> None:
    with TranscriptWriter(tmp_path / "t.jsonl") as writer:
        with pytest.raises(TranscriptError, match="one header, and it comes first"):
            writer.event(TICK)
        assert not (tmp_path / "t.jsonl").exists()
        writer.header(make_header())
        with pytest.raises(TranscriptError, match="one header, and it comes first"):
            writer.header(make_header())


@pytest.mark.parametrize("where", [".", "", "no/t.jsonl", "file/t.jsonl"])
def test_a_path_that_cannot_be_is_refused_at_once(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written to .*: name a file in a folder"):
        TranscriptWriter(tmp_path / where)


def test_a_file_that_cannot_be_opened_is_a_config_error(tmp_path: Path) -> None:
    writer = TranscriptWriter(tmp_path / ("x" * 300))
    with pytest.raises(ConfigError, match=r"cannot be written to .* name another file"):
        writer.header(make_header())
    writer.close()
    with pytest.raises(ConfigError, match="null"):
        TranscriptWriter("t\0.jsonl").header(make_header())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told_each_time() -> None:
    with TranscriptWriter("/dev/full") as writer:
        for _ in range(2):
            with pytest.raises(TranscriptError, match=r"cut short.*No space left"):
                writer.header(make_header())
        with pytest.raises(TranscriptError, match=r"cut short.*No space left"):
            writer.event(TICK)


def test_what_does_not_fit_the_format_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    block = CacheBlock("a")
    commit = Commit(tick=1, seat="A", feeds=(Feed(block, [block], [1, 2]),), moves=())
    with TranscriptWriter(path) as writer:
        writer.header(make_header())
        with pytest.raises(TranscriptError, match="2 tokens have 1 sources"):
            writer.commit("A", commit, [["forced"]])
        with pytest.raises(TranscriptError, match="well-formed"):
            writer.commit("A", commit, [])
        with pytest.raises(TranscriptError, match="surrogates"):
            writer.event(PolicyFailed(policy="P", error="\ud800", tick=1))
        assert path.read_bytes().count(b"\n") == 1
        writer.commit("A", commit, [["forced"] * 2])
    assert len(read_transcript(path, allow_partial=True).lines) == 2
