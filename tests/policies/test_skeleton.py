"""SkeletonOfThought: each point of the outline is worked out once, then one puts all together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import ConfigError, Dismiss, Prompt, Say
from hogwild_agents.policies import SkeletonOfThought, StopOnAnswer
from hogwild_agents.policies.skeleton import read_outline
from tests.policies.rig import act, fail, steps, taken, writers
from tests.runtime.rig import run_on

pytestmark = pytest.mark.anyio
EXPAND = Prompt.load("skeleton_expand")
CONCLUDE = Prompt.load("skeleton_conclude").render()
OUTLINE = Prompt.load("skeleton_outline").render(points=8)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("1. Add.\n2. Multiply\n\n", ["Add.", "Multiply"]),
        ("1. Add.\n2. Multiply\n", None),
        ("1. Add.\n\n", None),
        ("1. Add.\n\n2. Multiply.\n\nSo", None),
        ("1. Add.\n\n2. Multiply.\n\nSo much.\n\n", ["Add.", "Multiply."]),
        ("Here:\n1) Add\n2) Multiply\n\n", ["Add", "Multiply"]),
        ("Well.\n\n1. Add.\n2. Multiply.\n\n3. More.\n\n", ["Add.", "Multiply."]),
        ("I have 2. And 3.\n\n", None),
        ("1.5 is\n2.5\n\n", None),
    ],
)
def test_where_an_outline_ends(text: str, points: list[str] | None) -> None:
    assert read_outline(text) == points


async def test_outline_points_and_conclusion() -> None:
    scripts = {
        "A": "Add.\n2. Multiply.\n3. Check.\n\nI add.\n\nIt is \\boxed{7}",
        "B": "I multiply slowly.\n\n",
        "C": "I check.\n\n",
    }
    record = await act(scripts, SkeletonOfThought(), StopOnAnswer())
    points = ["Add.", "Multiply.", "Check."]
    texts = record.result.texts
    assert texts["A"].startswith(
        f"**A [1]:** {OUTLINE}Add.\n2. Multiply.\n3. Check.\n\n**A [2]:** "
    )
    for name, step, number in (("A", 2, 1), ("B", 1, 2), ("C", 1, 3)):
        said = EXPAND.render(number=number, point=points[number - 1])
        assert f"**{name} [{step}]:** {said}I " in texts[name]
    assert texts["A"].endswith(f"{CONCLUDE}It is \\boxed{{7}}")
    assert taken(record, Dismiss) == [Dismiss(worker="B"), Dismiss(worker="C")]
    assert (record.result.answer, record.result.author) == ("7", "A")


async def test_while_one_outlines_the_others_wait() -> None:
    scripts = {"A": "Add.\n2. Multiply.\n\nI add.\n\nEnd", "B": "I multiply.\n\n"}
    record = await act(scripts, SkeletonOfThought())
    outline = len("Add.\n2. Multiply.\n\n")
    assert all(names == {"A"} for _, names in list(writers(record).items())[:outline])


@given(
    points=st.integers(2, 6),
    workers=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 12), min_size=6, max_size=6),
    each=st.integers(1, 2),
)
@settings(max_examples=8)
def test_each_point_is_worked_out_once(
    points: int, workers: int, lengths: list[int], each: int
) -> None:
    names = "ABC"[:workers]
    outline = "".join(f"{number}. Do {number}.\n" for number in range(1, points + 1))
    work = {
        name: "".join("." * length + "\n\n" for length in lengths[rank:] + lengths[:rank]) * each
        for rank, name in enumerate(names)
    }
    work["A"] = f"{outline.removeprefix('1. ')}\n{work['A']}"
    policy = SkeletonOfThought(steps=each)
    record = run_on("asyncio", lambda: act(work, policy, StopOnAnswer()))
    said = [action.text for action in taken(record, Say)]
    expected = [EXPAND.render(number=n, point=f"Do {n}.") for n in range(1, points + 1)]
    assert said == [OUTLINE, *expected, CONCLUDE]
    until = taken(record).index(Say(worker="A", text=CONCLUDE))
    assert len([a for a in taken(record)[until:] if isinstance(a, Say)]) == 1
    done = [name for name, _ in steps(record)]
    assert len(done) >= 1 + points * each


@pytest.mark.parametrize("script", ["." * 30, "just one.\n\nMore"])
async def test_without_an_outline_all_are_left_alone(script: str) -> None:
    record = await act({"A": script, "B": "."}, SkeletonOfThought(max_tokens=12))
    assert taken(record, Say) == [Say(worker="A", text=OUTLINE)]
    assert record.result.texts["B"] == "**B [1]:** ."
    assert record.result.reason == "left"


async def test_the_work_goes_on_without_who_leaves() -> None:
    scripts = {"A": "Add.\n2. Multiply.\n\nI add.\n\nEnd", "B": "Bye", "C": ""}
    record = await act(scripts, SkeletonOfThought())
    assert record.result.texts["A"].endswith(f"{CONCLUDE}End")
    scripts = {"A": "Add.\n2. Multiply.\n\nBye", "B": "I multiply.\n\nEnd"}
    record = await act(scripts, SkeletonOfThought())
    assert record.result.texts["B"].endswith(f"{CONCLUDE}End")
    record = await act({"A": "Bye", "B": "Me too"}, SkeletonOfThought())
    assert record.result.texts["B"].endswith("Me too")


async def test_more_points_than_wanted_are_left_out() -> None:
    scripts = {"A": "a.\n2. b.\n3. c.\n\n.\n\nEnd", "B": ".\n\n"}
    record = await act(scripts, SkeletonOfThought(2))
    assert not [action for action in taken(record, Say) if "point 3" in action.text]


async def test_the_outliner_is_of_the_team() -> None:
    assert "by 'Zoe'" in await fail({"A": ""}, SkeletonOfThought(outliner="Zoe"))


def test_wrong_options() -> None:
    for option, least in (("points", 2), ("steps", 1), ("max_tokens", 1)):
        with pytest.raises(ConfigError, match=f"{option}={least - 1}"):
            SkeletonOfThought(**{option: least - 1})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no_such_prompt"):
        SkeletonOfThought(expand="no_such_prompt")


async def test_an_outline_ends_with_one_point_too_many() -> None:
    script = "Add.\n2. Multiply.\n3. Divide.\n4. Square.\n5. Cube.\n6. Root."
    record = await act({"A": script, "B": "."}, SkeletonOfThought(points=3))
    said = [action.text for action in taken(record, Say)]
    expected = zip((1, 2), ("Add.", "Multiply."), strict=True)
    assert said[1:3] == [EXPAND.render(number=n, point=point) for n, point in expected]
    assert "5." not in record.result.texts["A"].partition("\n\n")[0]
