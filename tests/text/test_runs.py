"""Whole runs with tokenizers of every family: events, results, transcripts and caches agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hogwild_agents.actions import EndStep, Say
from hogwild_agents.events import StepEnded, TokensWritten
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.policy import Policy
from hogwild_agents.text import decode_continuation
from hogwild_agents.transcript import read_transcript, rebuild
from hogwild_agents.transcript_lines import BlockLine, TickLine
from hogwild_agents.transcript_reader import Transcript
from tests.runtime.rig import Play, Typist, language_model, make_team, solve
from tests.text.families import FAMILIES

SAID = ["Wait, ", "</s> ", "你好 💔 ", "\n\nSo ", "e\u0301 "]
SPOKEN = "Use </s> and <s>, e\u0301.\n\nThanks 💔"
ROLE = "I am no </s>."


class Chatter(Policy):
    """Says something at the end of each step, in the middle of some, and ends some."""

    def __init__(self) -> None:
        self.heard = 0

    async def on_step_ended(self, event: StepEnded) -> Say | None:
        if event.worker == "User":
            return None
        return Say(worker=event.worker, text=SAID[event.step % len(SAID)])

    async def on_tokens_written(self, event: TokensWritten) -> Say | EndStep | None:
        self.heard += event.source == "sampled"
        if event.source != "sampled" or self.heard % 9:
            return None
        if self.heard % 2:
            return EndStep(worker=event.worker)
        return Say(worker=event.worker, text=SAID[self.heard % len(SAID)])


async def write(worker: Typist) -> None:
    await worker.write("hel")
    await worker.write("lo.\n\n*** a")


def workers(runs: list[Any]) -> list[Typist]:
    async def hear(worker: Typist) -> None:
        runs[0].say(SPOKEN)

    alice = Typist(
        "Alice", 4, "So it is.\n\n", 3, write, hear, 2, "你好。\n\n\n", 4, "No!", "\n\n", 2
    )
    bob = Typist("Bøb", 3, ".\n\n", 6, "```\na.\n\n```\nb.\n\nThen", 5, "a.\n", "\n", 4, role=ROLE)
    return [alice, bob]


def rebuilt(transcript: Transcript, model: LanguageModel) -> dict[str, tuple[int, ...]]:
    """The tokens of all blocks by name, made anew from the transcript."""
    blocks = rebuild(transcript, model.engine)
    tokens = {block.name: tuple(block.tokens) for block in blocks.values()}
    for block in blocks.values():
        model.engine.free(block)
    return tokens


def moved(transcript: Transcript) -> Iterator[str]:
    """The names of the blocks that moved to the history, in their order."""
    names = {line.id: line.name for line in transcript.lines if isinstance(line, BlockLine)}
    for line in transcript.lines:
        if isinstance(line, TickLine):
            yield from (names[source] for source, _ in line.moves)


def bodies(record: Play) -> dict[str, str]:
    """The texts of all steps by the names of their blocks, the unfinished ones too."""
    found: dict[str, str] = {}
    for event in record.told(TokensWritten):
        name = f"{event.worker} [{event.step}]"
        found[name] = found.get(name, "") + event.text
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["combined", "contiguous"])
async def test_a_run_says_what_its_cache_holds(family: str, layout: str, tmp_path: Path) -> None:
    model = language_model(family, "llama")
    runs: list[Any] = []
    options: dict[str, Any] = {"layout": layout, "policies": [Chatter()], "limits": Limits()}
    team = make_team(model, workers=workers(runs), **options)
    path = tmp_path / "run.jsonl"
    record = await solve(team, transcript=path, at_start=lambda run, group: runs.append(run))
    transcript = read_transcript(path)
    assert list(transcript.events()) == record.events
    texts = bodies(record)
    tokens = rebuilt(transcript, model)

    def reads(name: str) -> str:
        return decode_continuation(model.tokenizer, tokens[name])

    assert not record.result.failures
    if layout == "combined":
        order = list(moved(transcript))
        assert len(order) >= 8
        assert reads("history") == "".join(texts[name] for name in order)
        for name in team.names:
            last = [block for block in texts if block.startswith(name)][-1]
            assert reads(last).rstrip("\ufffd") == texts[last].rstrip("\ufffd")
    else:
        for name in team.names:
            whole = record.result.texts[name]
            assert reads(f"{name} [1]").rstrip("\ufffd") == whole.rstrip("\ufffd")
    spoken = texts["User [1]"]
    assert spoken == f"**User [1]:** {SPOKEN}\n\n"
    special = {model.tokenizer.bos_token_id, model.tokenizer.eos_token_id}
    assert special.isdisjoint(token for block in tokens.values() for token in block)
