"""PromptFolder: where prompt files lie, and how one is found by its name.

A prompt's name is that of its file, without the ending: ``skeptic``. No name and no link leads out
of the folder, its subfolders included. A file whose name begins with ``_`` is there for others to
include; it is not listed.
"""

from __future__ import annotations

import os
import re
import shlex
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from hogwild_agents.errors import ConfigError
from hogwild_agents.nearest import nearest

ENDINGS = (".md", ".txt")
FEW = 8
"""So many names and no more are listed in an error."""

_NAME = re.compile(r"\w[\w. -]*")


class PromptFolder:
    """A folder of prompt files.

    Args:
        path: the folder; None for the one that comes with the package.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._root: Traversable
        if path is None:
            self._root = resources.files("hogwild_agents.prompts")
            self._title, self._command = "the package", "hogwild prompts"
            return
        root = Path(path).expanduser()
        if not root.is_dir():
            raise ConfigError(
                f"There is no folder {str(root)!r}: give the path of a folder with prompt files."
            )
        self._root = root
        self._title = f"the folder {str(root)!r}"
        self._command = f"hogwild prompts {shlex.quote(str(root))}"

    def names(self) -> tuple[str, ...]:
        """Return the names of all that is listed, in alphabetical order."""
        files = (file.name for file in self._root.iterdir() if file.is_file())
        found = {name.rpartition(".")[0] for name in files if name.endswith(ENDINGS)}
        return tuple(sorted(name for name in found if not name.startswith("_") and self.find(name)))

    def find(self, name: str) -> Traversable | None:
        """Return the file of a name, with or without its ending; None if there is none."""
        if not _NAME.fullmatch(name):
            return None
        endings = ("",) if name.endswith(ENDINGS) else ENDINGS
        files = (self._root.joinpath(name + ending) for ending in endings)
        return next((file for file in files if file.is_file() and self._holds(file)), None)

    def get(self, name: str) -> Traversable:
        """Return the file of a name.

        Raises:
            ConfigError: there is none.
        """
        file = self.find(name)
        if file is None:
            raise ConfigError(self.missing(name))
        return file

    def missing(self, name: str) -> str:
        """Return the sentence that says what is there instead."""
        names = self.names()
        if not names:
            return f"There is no prompt {name!r} in {self._title}, and no other: add {name}.md."
        missing = f"There is no prompt {name!r} in {self._title}: "
        if len(names) <= FEW:
            return f"{missing}choose one of {', '.join(names)}."
        near = nearest(name, names)
        meant = f"{near} " if near else ""
        return f"{missing}{meant}`{self._command}` lists all {len(names)}."

    def _holds(self, file: Traversable) -> bool:
        if not isinstance(file, Path) or not isinstance(self._root, Path):
            return True
        return file.resolve().is_relative_to(self._root.resolve())


def read_text(file: Traversable) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: it is no text, or cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The prompt file {str(file)!r} cannot be read as UTF-8 text: {error}."
        ) from error
