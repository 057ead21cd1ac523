"""Markdown: paragraphs, tables and links of a page, from docstrings.

Names that may have a heading on the page are marked; :func:`linked` makes links of the marks when
the headings are known.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from inspect import cleandoc

_ALONE = re.compile(r"\n\n::(?=\n\n +)")
_LITERAL = re.compile(r"(?:(?<=:):)?\n\n( +(?:.*\n)*?.*)(?=\n\n\S|\Z)")
_ROLE = re.compile(r"(?<!`):[a-z]+:`(~?)([^`]+)`")
_CODE = re.compile(r"``(.+?)``", re.DOTALL)
_MARK = re.compile("\0(.*?)\1(.*?)\0", re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(text: str, owner: str = "") -> str:
    """Return the text of a docstring as paragraphs; ``owner`` is whose methods it may name."""
    parts: list[str] = []
    for index, piece in enumerate(_LITERAL.split(_ALONE.sub("\n\n", text))):
        if index % 2:
            code = cleandoc("\n" + piece)
            parts.append(fenced(code, "py" if _is_python(code) else "text"))
        elif piece.strip():
            parts.append(_inline(piece.strip(), owner))
    return "\n\n".join(parts)


def cell(text: str, owner: str = "") -> str:
    """Return the text of a docstring for a cell of a table; what it raises as a sentence."""
    text = re.sub(r"\n\nRaises:\n *(\w+):", r" Raises ``\1``:", text)
    return " ".join(_inline(text, owner).split()).replace("|", r"\|")


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a table, or nothing without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    rule = "|---" * (head.count("|") + 1) + "|"
    return "\n".join([f"| {head} |", rule, *lines]) if lines else ""


def fenced(code: str, kind: str = "py") -> str:
    """Return a block of code."""
    return f"```{kind}\n{code}\n```"


def mark(name: str, owner: str = "") -> str:
    """Return a name as code that :func:`linked` makes a link, if it is on the page."""
    return f"\0{owner}\1{name}\0"


def linked(text: str) -> str:
    """Return a page with its marks as links to its headings, or as mere code."""
    anchors = slugs(text)

    def link(found: re.Match[str]) -> str:
        owner, name = found[1], found[2]
        for one in (name, f"{owner}.{name}", name.partition(".")[0]):
            if one in anchors and one != owner:
                return f"[`{name}`](#{anchors[one]})"
        return f"`{name}`"

    return _MARK.sub(link, text)


def slugs(page: str) -> dict[str, str]:
    """Return the anchors of a page's headings, as code hosts make them, by what they say."""
    seen: Counter[str] = Counter()
    found: dict[str, str] = {}
    for heading in _HEADING.findall(_FENCE.sub("", page)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[heading.strip("`")] = f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1
    return found


def _inline(text: str, owner: str) -> str:
    text = _ROLE.sub(lambda role: mark(_short(role[2], role[1]), owner), text)
    return _CODE.sub(lambda code: mark(code[1], owner), text)


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def _short(name: str, tilde: str) -> str:
    return name.rpartition(".")[2] if tilde else name
