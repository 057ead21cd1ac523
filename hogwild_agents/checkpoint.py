"""Checkpoint: a model's folder, file or id, and every way in which it can be wrong.

What is wrong is found as early as can be: the config first, then the tokenizer, then the heads of
the weight files, and only then the weights. What is on disk is read without any network; a Hugging
Face id goes through transformers' own cache. Code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from hogwild_agents.errors import ModelError, UnsupportedModelError
from hogwild_agents.hub import ADVICE as OFFLINE_ADVICE, is_reachable
from hogwild_agents.model_class import find_class
from hogwild_agents.nearest import nearest
from hogwild_agents.rope_scaling import scale_rope
from hogwild_agents.spelling import check_tokenizer

if TYPE_CHECKING:
    import torch

BUNDLED = "bundled"

_DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "tiktoken.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)
_ADVICE = (
    "give 'bundled', a model folder, a .gguf file, or a Hugging Face id such as 'Qwen/Qwen3-8B'"
)


@dataclass(frozen=True, kw_only=True)
class LoadProgress:
    """How far a load has come.

    Attributes:
        stage: what begins or goes on: ``"config"``, ``"tokenizer"``, ``"weights"``, or
            ``"check"`` (the engine measures the model and probes that its logits are exact).
        done: how many parts of the stage are done.
        total: how many there are; None if that is not known.
    """

    stage: Literal["config", "tokenizer", "weights", "check"]
    done: int = 0
    total: int | None = None


OnProgress = Callable[[LoadProgress], None]


@dataclass(frozen=True)
class Checkpoint:
    """Where a model comes from: a folder, or else a Hugging Face id.

    Attributes:
        name: as it was asked for.
        folder: where its files are; None for an id.
        revision: of an id.
        gguf: the file in the folder that holds it all, config and tokenizer included.
        cached: of an id: nothing but what the cache on this machine has can be had.
    """

    name: str
    folder: Path | None
    revision: str | None
    gguf: str | None = None
    cached: bool = False

    @property
    def bundled(self) -> bool:
        """Whether it is the one that comes with the package."""
        return self.name == BUNDLED

    @property
    def place(self) -> str:
        """What transformers loads it by."""
        return self.name if self.folder is None else str(self.folder)

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.place if self.gguf is None else os.path.join(self.place, self.gguf)

    @property
    def options(self) -> dict[str, Any]:
        """The options of every ``from_pretrained``."""
        known: dict[str, Any] = {"trust_remote_code": False}
        if self.gguf is not None:
            known["gguf_file"] = self.gguf
        if self.folder is not None:
            return known | {"local_files_only": True}
        return known | {"revision": self.revision, "local_files_only": self.cached}

    def error(self, what: str, error: BaseException, options: Sequence[str] = ()) -> ModelError:
        """Return one sentence for whatever transformers raised, told these options."""
        where, advice = repr(self.where), "fetch or save the model again"
        if options:
            advice = f"look at {' and '.join(options)}, or {advice}"
        if self.cached:
            where, advice = f"{where} (in the cache of Hugging Face)", OFFLINE_ADVICE
        elif self.folder is None:
            where, advice = f"{where} (no folder here, so a Hugging Face id)", _ADVICE
        # What is no fault of the model's files is not mended by other ones.
        advice = _remedy(error, "model_options" in options) or advice
        return ModelError(f"{what} of {where} cannot be loaded ({reason_of(error)}): {advice}.")


def _remedy(error: BaseException, has_options: bool) -> str | None:
    """Return what helps against an error that does not come from a model's files, or None."""
    text = str(error)
    if "accelerate" in text and find_spec("accelerate") is None:
        return 'install accelerate with `pip install -e ".[large]"` or `pip install accelerate`'
    if isinstance(error, ImportError):
        return f"install {error.name}" if error.name else "install that"
    unknown = re.search(r"unexpected keyword argument '(\w+)'", text)
    if has_options and isinstance(error, TypeError) and unknown:
        return (
            f"leave {unknown[1]!r} out of model_options, or spell it as from_pretrained of "
            "transformers does"
        )
    return None


def find_checkpoint(name: str | os.PathLike[str], revision: str | None) -> Checkpoint:
    """Return where a model is, by its name, folder or id; the hub is asked for an id.

    Raises:
        ModelError: it is nowhere, or the hub cannot be asked, or a revision is asked for of what
            is here.
    """
    found = find_here(name)
    if found is not None and revision is not None:
        raise ModelError(
            f"The model {found.name!r} is on this machine, and has no revision {revision!r}: leave "
            "that out, or give a Hugging Face id."
        )
    if found is not None:
        return found
    given = os.fspath(name)
    return Checkpoint(given, None, revision, cached=not is_reachable(given, revision))


def find_here(name: str | os.PathLike[str]) -> Checkpoint | None:
    """Return where a model is on this machine; None for what can be nothing but an id.

    Raises:
        ModelError: it is neither.
    """
    if not isinstance(name, str | os.PathLike):
        raise ModelError(f"The model's name is {name!r}, which is no text: {_ADVICE}.")
    given = os.fspath(name)
    if isinstance(name, str) and given == BUNDLED:
        from hogwild_agents.bundled import bundled_path

        return Checkpoint(BUNDLED, bundled_path(), None)
    if not given.strip():
        raise ModelError(f"The model's name is empty: {_ADVICE}.")
    path = Path(given).expanduser()
    if path.is_dir():
        return Checkpoint(given, path, None)
    if path.suffix == ".gguf" and path.is_file():
        return Checkpoint(given, path.parent, None, path.name)
    if path.exists():
        raise ModelError(
            f"{given!r} is a file: give the folder of the model, with its config.json, or a .gguf "
            "file."
        )
    if not isinstance(name, str) or not _HUB_ID.fullmatch(given):
        raise ModelError(f"There is no model folder {given!r}: {_ADVICE}.")
    near = nearest(given, [BUNDLED])
    if near:
        raise ModelError(f"There is no model {given!r}: {near}")
    return None


def find_device(device: str | torch.device) -> torch.device:
    """Return a device that this machine has."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"There is no device {device!r}: give 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    try:
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ModelError(
            f"The device {str(device)!r} cannot be used on this machine ({reason_of(error)}): give "
            "'auto' or 'cpu'."
        ) from error
    return found


def find_dtype(dtype: str | torch.dtype) -> Any:
    """Return a torch dtype, or "auto"."""
    import torch

    if dtype == "auto":
        return "auto"
    known = _DTYPES.get(str(dtype).removeprefix("torch."))
    if known is None:
        raise ModelError(
            f"The dtype {str(dtype)!r} cannot be used: give 'auto', 'float32', 'bfloat16' or "
            "'float16'."
        )
    return getattr(torch, known)


def loading_dtype(checkpoint: Checkpoint, dtype: Any, device: torch.device) -> Any:
    """Return what to load a checkpoint in, asked for a torch dtype, or for "auto", its own.

    The bundled model is loaded in float32 on the CPU, where its own would not be faster.
    """
    if checkpoint.bundled and dtype == "auto" and device.type == "cpu":
        return find_dtype("float32")
    return dtype


# -- the config


def read_config(checkpoint: Checkpoint, rope_scaling: Mapping[str, Any] | None = None) -> Any:
    """Return the config, unless it tells already that the model cannot be run.

    Args:
        checkpoint: where it is.
        rope_scaling: rope parameters to put into it.

    Raises:
        ModelError: it cannot be read.
        UnsupportedModelError: its models cannot be run exactly.
        ConfigError: the rope scaling does not fit it.
    """
    from transformers import AutoConfig

    if checkpoint.folder is not None and checkpoint.gguf is None:
        _check_config_file(checkpoint.folder)
    try:
        config = AutoConfig.from_pretrained(checkpoint.place, **checkpoint.options)
    except Exception as error:
        raise checkpoint.error("The config", error) from error
    if rope_scaling and getattr(config.get_text_config(decoder=True), "rope_parameters", None):
        scale_rope(config, rope_scaling)
    reason = why_not(config)
    if reason:
        raise UnsupportedModelError(
            f"The model {checkpoint.where!r} (model type {config.model_type!r}) cannot be run "
            f"exactly, because {reason}: choose another model, such as Llama, Qwen3, Gemma 3, "
            "Mistral, GLM-4 or gpt-oss."
        )
    return config


def why_not(config: Any) -> str | None:
    """Return why the models of a config cannot be run, as far as it tells, or None."""
    from hogwild_agents.engine import unsupported_reason

    reason = unsupported_reason(config)
    if not reason and find_class(config) is None:
        reason = "it is no causal language model"
    return reason


def _check_config_file(folder: Path) -> None:
    from transformers import CONFIG_MAPPING, __version__ as version

    file = folder / "config.json"
    if not file.is_file():
        packed = sorted(map(str, folder.glob("*.gguf")))
        instead = f"the file, {packed[0]!r}" if packed else "the folder that save_pretrained wrote"
        raise ModelError(
            f"The folder {str(folder)!r} has no config.json, so it is no transformers model: give "
            f"{instead}."
        )
    config = read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise ModelError(
            f"{str(file)!r} names no model_type, so it is no transformers config: fetch or save "
            "the model again."
        )
    if kind not in CONFIG_MAPPING:
        why = (
            "it brings code of its own, which is never run here: choose another model"
            if "auto_map" in config
            else f"transformers {version} does not know it: upgrade transformers"
        )
        raise ModelError(
            f"The model {str(folder)!r} is of type {kind!r} and cannot be loaded, because {why}."
        )


def read_json(file: Path) -> Any:
    """Return what a JSON file of a checkpoint holds."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{str(file)!r} is broken ({reason_of(error)}): fetch or save the model again."
        ) from error


# -- the tokenizer


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the tokenizer."""
    from transformers import AutoTokenizer

    folder = None if checkpoint.gguf else checkpoint.folder
    if folder is not None and not _has_tokenizer(folder):
        raise ModelError(
            f"The folder {str(folder)!r} has no tokenizer (no tokenizer.json or "
            "tokenizer.model): copy the tokenizer's files into it."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.place, **checkpoint.options)
        usable = bool(tokenizer.encode("a", add_special_tokens=False))
    except Exception as error:
        missing = _missing_packages(folder)
        if missing:
            raise ModelError(
                f"The tokenizer of {checkpoint.place!r} is a SentencePiece model, which cannot be "
                f"read without the packages that are not there: pip install {' '.join(missing)}."
            ) from error
        raise checkpoint.error("The tokenizer", error) from error
    if not usable:
        raise ModelError(
            f"The tokenizer of {checkpoint.where!r} has no vocabulary: copy the tokenizer's files "
            "into the model's folder."
        )
    check_tokenizer(tokenizer, checkpoint.where)
    return tokenizer


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in _TOKENIZER_FILES) or any(
        folder.glob("*.tiktoken")
    )


def _missing_packages(folder: Path | None) -> list[str]:
    """Return what is not installed of that by which transformers reads a folder's tokenizer."""
    if folder is None or (folder / "tokenizer.json").is_file():
        return []
    if not any((folder / file).is_file() for file in _SENTENCEPIECE):
        return []
    return [package for package in ("sentencepiece", "protobuf") if not _is_installed(package)]


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


# -- transformers' talk


@contextmanager
def quiet_transformers(on_progress: OnProgress | None) -> Iterator[None]:
    """Keep transformers from talking, and take its bar for the weights if somebody listens.

    If nobody does, the bar is shown on a terminal, and nowhere else. The hub does not talk either.
    """
    from huggingface_hub.utils import logging as hub_talk
    from transformers.utils import logging as talk

    verbosity, hub_verbosity = talk.get_verbosity(), hub_talk.get_verbosity()
    talk.set_verbosity(logging.CRITICAL)
    hub_talk.set_verbosity(logging.CRITICAL)
    taken = on_progress is not None or not _is_terminal(sys.stderr)
    before = talk.set_tqdm_hook(_bar(on_progress)) if taken else None
    try:
        yield
    finally:
        if taken:
            talk.set_tqdm_hook(before)
        talk.set_verbosity(verbosity)
        hub_talk.set_verbosity(hub_verbosity)


def _bar(report: OnProgress | None) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]:
    def make(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if report is None or not args:
            return factory(*args, **options | {"disable": True})
        return _counted(args[0], report)

    return make


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _counted(items: Any, report: OnProgress) -> Iterator[Any]:
    total = len(items) if isinstance(items, Sized) else None
    for done, item in enumerate(items, start=1):
        yield item
        report(LoadProgress(stage="weights", done=done, total=total))


def reason_of(error: BaseException) -> str:
    """Return the first sentence of an error, to stand in parentheses."""
    text = " ".join(str(error).split())
    first = re.split(r"(?<=[.!?]) ", text, maxsplit=1)[0]
    return first.rstrip(".!") or type(error).__name__
