"""Nearest: what somebody may have meant by a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 3
_ALIKE = 0.7


def nearest(given: str, names: Iterable[str]) -> str:
    """Return a question, such as ``did you mean 'a' or 'b'?``; nothing if no name is near.

    Near are names that are spelt alike, whatever the case, or that the given one is a part of.
    """
    known = {name.lower(): name for name in names}
    wanted = given.lower()
    close = get_close_matches(wanted, known, n=_MOST, cutoff=_ALIKE)
    parts = [name for name in known if len(wanted) > 2 and wanted in name]
    found = [repr(known[name]) for name in dict.fromkeys([*close, *parts])][:_MOST]
    return f"did you mean {' or '.join(found)}?" if found else ""
