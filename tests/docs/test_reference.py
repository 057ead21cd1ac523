"""The reference is what the docstrings say now, and it has every public name."""

from __future__ import annotations

import hogwild_agents
import hogwild_agents.policies
import hogwild_agents.testing
from docs.markdown import fenced, prose, slugs
from docs.write_reference import INTERNAL, TARGET, listed, page

PAGE = TARGET.read_text(encoding="utf-8")
PUBLIC = [
    *hogwild_agents.__all__,
    *hogwild_agents.policies.__all__,
    *hogwild_agents.testing.__all__,
]


def test_page_is_what_the_source_says_now() -> None:
    lines, now = PAGE.splitlines(), page().splitlines()
    first = next((pair for pair in zip(lines, now, strict=False) if pair[0] != pair[1]), None)
    assert first is None, "run `python -m docs.write_reference`"
    assert len(lines) == len(now), "run `python -m docs.write_reference`"


def test_every_public_name_has_its_heading() -> None:
    missing = set(PUBLIC) - set(slugs(PAGE))
    assert not missing, "put them into GROUPS of docs/write_reference.py"


def test_what_is_left_out_as_internal_is_there() -> None:
    for name in INTERNAL:
        owner, _, attribute = name.partition(".")
        (found,) = listed(owner)
        assert attribute in found.functions


def test_every_parameter_that_is_told_stands_in_a_signature() -> None:
    for block in PAGE.split("\n### ")[1:]:
        for part in block.split("\n#### "):
            told = part.partition("| parameter |")[2].partition("\n\n")[0]
            names = [row.split("`")[1] for row in told.splitlines() if row.startswith("| `")]
            code = part.partition("```py\n")[2].partition("```")[0]
            assert all(name in code for name in names), part[:80]


def test_code_in_a_docstring_is_a_block() -> None:
    text = "Use it so::\n\n    first()\n\n    second()\n\nThat is all of :meth:`run`."
    code = fenced("first()\n\nsecond()")
    assert prose(text).startswith(f"Use it so:\n\n{code}\n\nThat is all of ")


def test_headings_of_one_name_get_anchors_of_their_own() -> None:
    assert slugs("# A page\n\n## `Observer`\n\n```py\n# no heading\n```\n\n## `observer`\n") == {
        "A page": "a-page",
        "Observer": "observer",
        "observer": "observer-1",
    }
