"""Writes docs/reference.md: every public name, as its source and its docstring have it.

Run it with `python -m docs.write_reference`; a test compares the page with what it would write.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from docs.definitions import (
    PACKAGE,
    Definition,
    Doc,
    Function,
    doc_of,
    documented,
    exported,
    find,
    kept,
    literal,
    source,
    statements,
)
from docs.markdown import cell, fenced, linked, mark, prose, table
from docs.signatures import constructor, signatures, value_of

TARGET = Path(__file__).with_name("reference.md")

HEAD = """# Reference

Every public name, as its docstring tells it. What is not said to be from elsewhere is imported from
`hogwild_agents`. (`python -m docs.write_reference` writes this page.)"""

GROUPS: Mapping[str, tuple[str, str]] = {
    "Load and run": (
        "",
        "load_model LanguageModel Team Run RunResult TypedResult Step Limits find_boxed "
        "models.LoadProgress TextStream",
    ),
    "Workers": ("", "Worker Token TypingWorker UnknownWorkerWarning"),
    "Layouts and views": (
        "With pictures: [layouts](layouts.md).",
        "Layout Combined Contiguous Interleaved Isolated Headings Board Place",
    ),
    "Events": (
        "What policies, an `on_event` and `Team.stream` get. With the handlers: "
        "[policies](policies.md).",
        "Event Source RunStarted WorkerJoined TokensWritten StepEnded TickEnded ProbeAnswered "
        "LimitReached ActionTaken PolicyFailed WorkerLeft RunEnded",
    ),
    "Actions": (
        "What policies may answer, and what `Run.act` takes.",
        "Action Say EndStep Ban Bias ChangeSampling Park Resume Spawn Dismiss Hide Show Forget "
        "Probe Conclude Finish",
    ),
    "Writing policies": (
        "With examples: [policies](policies.md).",
        "Policy Observer controller observer Answer RunView",
    ),
    "Ready-made policies": ("From `hogwild_agents.policies`.", "policies.*"),
    "Prompts": ("With the texts: [prompts](prompts.md).", "Prompt available_prompts"),
    "Tools": ("With examples: [tools](tools.md).", "Tool tools.ToolResult"),
    "The coordinator": (
        "A team makes its own, unless it is given one that several share.",
        "CacheCoordinator Seat TickFeed seat.TickResult Move seat.Fork seat.Forked Commit "
        "Statistics",
    ),
    "The engine": (
        "With examples: [the engine alone](engine.md).",
        "Engine Feed CacheBlock BlockSlice ViewEntry SamplingParams Sampler Sampled sample "
        "engine.Trial ParallelEngine",
    ),
    "The transcript": (
        "With the format of the file: [the transcript](transcript.md).",
        "Transcript TranscriptHeader read_transcript rebuild",
    ),
    "Testing": (
        "From `hogwild_agents.testing`. With examples: [testing](testing.md).",
        "testing.*",
    ),
    "Errors": (literal(statements(f"{PACKAGE}.errors")[0]), "errors.*"),
}
"""What each group begins with, and its names: of the package, or ``module.name`` of a module of it;
``*`` is all that the module has."""

EXPORTING = (PACKAGE, f"{PACKAGE}.policies", f"{PACKAGE}.testing")
GIVEN = ("Board", "CacheBlock", "Place", "Run", "RunView", "Seat", "TranscriptHeader")
"""Classes whose objects users are given."""
INTERNAL = (
    *("Board.limit", "Board.hide", "Board.show", "Board.forget", "Board.address", "Board.moved"),
    "Board.seated",
    *("Sampler.generator", "Team.opening", "TranscriptHeader.of_run", "TypedResult.of"),
    *("Worker.desk", "Worker.seated"),
)
"""What only the runtime calls."""
UNTOLD = ("ABC", "Entry", "Exception", "Generic")
"""Bases that tell users nothing."""


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")
    print(f"{TARGET}: {len(names())} names")


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, (_, group) in GROUPS.items():
        links = ", ".join(mark(one.name) for one in listed(group))
        parts.append(f"**[{title}](#{title.lower().replace(' ', '-')})**: {links}")
    for title, (said, group) in GROUPS.items():
        parts += [f"## {title}", prose(said)]
        for one in listed(group):
            parts += entry(one)
    return linked("\n\n".join(part for part in parts if part)) + "\n"


def names() -> list[str]:
    """Return the names that stand on the page."""
    return [one.name for _, group in GROUPS.values() for one in listed(group)]


def listed(group: str) -> Iterator[Definition]:
    """Yield the definitions of a group."""
    for given in group.split():
        place, _, name = given.rpartition(".")
        module = f"{PACKAGE}.{place}".rstrip(".")
        for one in exported(module) if name == "*" else [name]:
            found = find(module, one)
            if found is None:
                raise LookupError(f"There is no {one!r} in {module}: mend GROUPS.")
            yield found


# -- one name


def entry(found: Definition) -> Iterator[str]:
    """Yield the paragraphs about a name."""
    yield f"### `{found.name}`"
    match found.node:
        case ast.ClassDef():
            yield from class_entry(found)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            given = found.functions[found.name]
            yield fenced(signatures(given, found.module, bound=False))
            yield from described(Doc.read(found.doc), found.name)
        case ast.AnnAssign(value=ast.expr() as value):
            yield f"One of {', '.join(map(mark, alternatives(value)))}."
            yield prose(found.doc)
        case other:
            raise LookupError(f"{found.name} is a {type(other).__name__}: mend GROUPS.")


def alternatives(value: ast.expr) -> list[str]:
    """Return what a type is one of."""
    match value:
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=elements)):
            return [source(element) for element in elements]
        case _:
            return [kind.strip() for kind in source(value).split("|")]


def class_entry(found: Definition) -> Iterator[str]:
    """Yield the paragraphs about a class, after its heading."""
    if not any(found.name in exported(module) for module in EXPORTING):
        yield f"From `{found.module}`."
    doc = Doc.read(found.doc)
    for base in found.own[1:]:
        doc.sections = {**Doc.read(base.doc).sections, **doc.sections}
    if found.name in GIVEN:
        doc.sections = {"Attributes": doc.sections.get("Attributes", {})}
    elif call := constructor(found):
        yield fenced(call)
    if kinds := [mark(name) for name in found.kinds if name not in UNTOLD]:
        yield f"A kind of {' and '.join(kinds)}."
    yield from described(doc, found.name, attributes(found, doc))
    told = {*dict(doc.get("Attributes")), *found.functions}
    if found.name not in GIVEN and (stored := [one for one in kept(found) if one not in told]):
        yield f"Attributes of the same name: {', '.join(f'`{name}`' for name in stored)}."
    yield from methods(found)


def described(doc: Doc, owner: str, attributes: str = "") -> Iterator[str]:
    """Yield what a docstring says."""
    yield prose(doc.text, owner)
    rows = ((f"`{name}`", cell(text, owner)) for name, text in doc.get("Args"))
    yield table("parameter | ", rows)
    yield attributes
    for _, text in doc.get("Returns"):
        yield f"Returns {prose(text, owner)}"
    rows = ((mark(name), cell(text, owner)) for name, text in doc.get("Raises"))
    yield table("raises | when", rows)


def attributes(found: Definition, doc: Doc) -> str:
    """Return the table of a class's attributes: fields, what its docstring lists, properties."""
    said = dict(doc.get("Attributes"))
    rows: dict[str, tuple[str, str]] = {}
    for one in found.own:
        for field, after in documented(one.members):
            name, kind = source(field.target), source(field.annotation)
            if field.value is not None:
                kind += f" = {value_of(field.value, one.module)}"
            if name in said or after or not kind.startswith("ClassVar"):
                rows[name] = (kind, said.get(name) or after)
        types = kept(one)
        rows |= {name: (types.get(name, ""), said[name]) for name in said if name not in rows}
        for node in shown(found.name, one, properties=True):
            kind = source(node.returns) if node.returns is not None else ""
            rows[node.name] = (kind, doc_of(node))
    cells = (
        (f"`{name}`", f"`{cell(kind)}`" if kind else "", cell(text, found.name))
        for name, (kind, text) in rows.items()
    )
    return table("attribute | type | ", cells)


def methods(found: Definition) -> Iterator[str]:
    """Yield the paragraphs about methods that no base has; first a table of the simple ones."""
    above = {name for one in found.lineage if one not in found.own for name in one.functions}
    given = [
        (node.name, signatures(one.functions[node.name], one.module, bound=True), doc_of(node))
        for one in found.own
        for node in shown(found.name, one, properties=False)
        if node.name not in above
    ]
    simple = [one for one in given if not any("\n" in text for text in one)]
    rows = (
        (f"`{cell(call.replace('def ', '', 1))}`", cell(doc, found.name)) for _, call, doc in simple
    )
    yield table("method | ", rows)
    for one in given:
        if one not in simple:
            name, call, doc = one
            yield f"#### `{found.name}.{name}`"
            yield fenced(call)
            yield from described(Doc.read(doc), found.name)


def shown(owner: str, found: Definition, *, properties: bool) -> Iterator[Function]:
    """Yield the public methods, or the properties, of a class."""
    for name, given in found.functions.items():
        is_property = any("property" in source(one) for one in given[-1].decorator_list)
        public = not name.startswith("_") and f"{owner}.{name}" not in INTERNAL
        if public and is_property == properties:
            yield given[-1]


if __name__ == "__main__":
    main()
