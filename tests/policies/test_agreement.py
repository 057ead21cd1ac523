"""StopOnAgreement: so many workers with one answer, boxed or probed."""

from __future__ import annotations

import pytest

from hogwild_agents import ConfigError, Probe
from hogwild_agents.policies import StopOnAgreement
from tests.policies.rig import act, sampled, taken

pytestmark = pytest.mark.anyio
REST = "." * 60


async def test_two_equal_answers_end_the_run() -> None:
    scripts = {"A": r"\boxed{1}" + REST, "B": r"..\boxed{0.50}" + REST, "C": r"....\boxed{0.5}"}
    record = await act(scripts, StopOnAgreement())
    result = record.result
    assert (result.answer, result.author, result.reason) == ("0.50", "B", "agreement")
    assert sampled(record, "A") == len(r"....\boxed{0.5}")


async def test_one_worker_agrees_with_itself_only() -> None:
    record = await act({"A": r"\boxed{1} \boxed{1}", "B": r"\boxed{2}"}, StopOnAgreement())
    assert record.result.answer is None


async def test_the_last_answer_of_a_worker_counts() -> None:
    scripts = {"A": r"\boxed{1} no, \boxed{2}", "B": "." * 25 + r"\boxed{1}" + REST}
    record = await act(scripts, StopOnAgreement())
    assert record.result.answer is None
    scripts = {"A": r"\boxed{1} no, \boxed{2}", "B": "." * 25 + r"\boxed{2}" + REST}
    record = await act(scripts, StopOnAgreement())
    assert (record.result.answer, record.result.author) == ("2", "A")


@pytest.mark.parametrize("needed", [1, 2, 3])
async def test_as_many_as_are_asked_for(needed: int) -> None:
    scripts = {name: "." * index + r"\boxed{1}" + REST for index, name in enumerate("ABC")}
    record = await act(scripts, StopOnAgreement(needed))
    assert record.result.answer == "1"
    assert sampled(record, "A") == len(r"\boxed{1}") + needed - 1


@pytest.mark.parametrize(("chance", "agrees"), [(0.7, True), (0.5, False)])
async def test_others_can_be_probed(chance: float, agrees: bool) -> None:
    answers = {"B": {"Have I come to the same": {"yes": chance, "no": 0.3}}}
    scripts = {"A": r"\boxed{7}" + REST, "B": REST}
    record = await act(scripts, StopOnAgreement(threshold=0.65), answers=answers)
    (probe,) = taken(record, Probe)
    assert (probe.worker, "A says that the answer is 7" in probe.question) == ("B", True)
    assert record.result.answer == ("7" if agrees else None)
    assert record.result.texts["B"].strip("*AB [1]:.") == ""


async def test_who_has_another_answer_is_not_probed() -> None:
    answers = {"B": {"Have I": "yes"}}
    scripts = {"B": r"\boxed{6}" + REST, "A": r".\boxed{7}" + REST}
    record = await act(scripts, StopOnAgreement(threshold=0.5), answers=answers)
    assert [probe.worker for probe in taken(record, Probe)] == ["A"]
    assert record.result.answer is None


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="0 workers"):
        StopOnAgreement(0)
    with pytest.raises(ConfigError, match="threshold 2"):
        StopOnAgreement(threshold=2)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        StopOnAgreement(prompt="no_such_prompt")
