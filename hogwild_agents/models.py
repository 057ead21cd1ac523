"""Models: from a name to an engine and a tokenizer, or one sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hogwild_agents.checkpoint import (
    LoadProgress,
    OnProgress,
    find_checkpoint,
    find_device,
    find_dtype,
    loading_dtype,
    quiet_transformers,
    read_config,
    read_tokenizer,
)
from hogwild_agents.errors import ConfigError
from hogwild_agents.quantization import Quantization
from hogwild_agents.rope_scaling import RopeScaling, parse_rope_scaling
from hogwild_agents.shards import split_options
from hogwild_agents.spelling import Control, Speller, check_tokenizer, control_tokens
from hogwild_agents.text import (
    KnownTokens,
    TextStream,
    anchor,
    banned_while_reasoning,
    decode,
    decode_continuation,
    sharing_stream,
    token_texts,
)
from hogwild_agents.weights import check_options, read_weights
from hogwild_agents.whole import is_whole

if TYPE_CHECKING:
    import torch

    from hogwild_agents.engine import Engine, SamplingParams

__all__ = ["LanguageModel", "LoadProgress", "OnProgress", "load_model"]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model: what a team needs of it. A context manager that closes it in the end.

    Attributes:
        name: what it was loaded as.
        engine: the engine that runs it.
        tokenizer: its transformers tokenizer.

    Raises:
        ModelError: the tokenizer cannot write newlines, or the marks around steps.
    """

    name: str
    engine: Engine
    tokenizer: Any

    def __post_init__(self) -> None:
        check_tokenizer(self.tokenizer, self.name)

    def encode(self, text: str, *, control: Control = "added") -> list[int]:
        """Return ids that add exactly ``text`` to what stands before; no special tokens added.

        Args:
            text: what to write.
            control: which control tokens that the text spells out become these tokens:
                ``"none"``, for text from outside; ``"added"``, those that models write as they
                write words (``<think>``), but not the special ones; ``"all"``, for text in the
                model's own format.

        Raises:
            UsageError: there is half of a surrogate pair in the text.
        """
        return self._spellers[control].spell(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids that open a text, special tokens included."""
        return decode(self.tokenizer, ids)

    def text_stream(self, *, continuing: bool = False) -> TextStream:
        """Return a new stream that turns ids to text, piece by piece.

        Args:
            continuing: the ids stand behind other text.
        """
        before = self._anchor if continuing else ()
        return sharing_stream(self.tokenizer, before, self._known_tokens)

    @cached_property
    def _known_tokens(self) -> KnownTokens:
        return KnownTokens()

    @cached_property
    def _anchor(self) -> list[int]:
        return anchor(self.tokenizer)

    @cached_property
    def _spellers(self) -> dict[Control, Speller]:
        controls: tuple[Control, ...] = ("none", "added", "all")
        return {control: Speller(self.tokenizer, control) for control in controls}

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end a turn, by the model's config and generation config."""
        model = self.engine.model
        found: set[int] = set()
        for config in (getattr(model, "generation_config", None), model.config):
            ids = getattr(config, "eos_token_id", None)
            found.update([ids] if isinstance(ids, int) else ids or ())
        return frozenset(found)

    @cached_property
    def _controls(self) -> frozenset[int]:
        """The tokens that are no words: they end a turn, or belong to a format."""
        return self.stop_ids.union(control_tokens(self.tokenizer).values())

    @cached_property
    def _text_of(self) -> Callable[[int], str]:
        return lru_cache(maxsize=4096)(lambda token: decode_continuation(self.tokenizer, [token]))

    @cached_property
    def reasoning_bans(self) -> frozenset[int]:
        """The tokens no worker may write: see :func:`~hogwild_agents.text.banned_while_reasoning`.

        Computed once; ids that the model does not have are left out.
        """
        banned = banned_while_reasoning(self.tokenizer, stop_ids=self.stop_ids)
        return frozenset(token for token in banned if 0 <= token < self.engine.vocab_size)

    def tokens_with(self, texts: Iterable[str]) -> frozenset[int]:
        """Return every token whose text contains one of ``texts``."""
        wanted = tuple(texts)
        return frozenset(
            token for token, text in self._token_texts if any(part in text for part in wanted)
        )

    @cached_property
    def _token_texts(self) -> tuple[tuple[int, str], ...]:
        size = self.engine.vocab_size
        return tuple((token, text) for token, text in token_texts(self.tokenizer) if token < size)

    def follow(self) -> bool:
        """Where another process leads this one, do what it says until it closes the model.

        Returns:
            whether that was so: at once False in process 0, and where there is only one.

        Raises:
            ParallelError: process 0 has ended without closing it, or this process has failed.
        """
        from hogwild_agents.engine import ParallelEngine

        if not isinstance(self.engine, ParallelEngine) or self.engine.leads:
            return False
        self.engine.follow()
        return True

    @cached_property
    def sampling(self) -> SamplingParams:
        """How the model samples unless told otherwise: by its ``generation_config``."""
        from hogwild_agents.engine import SamplingParams

        return SamplingParams.from_model(self.engine.model)

    def close(self) -> None:
        """Close the engine. Doing it again changes nothing."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def load_model(
    name: str | os.PathLike[str] = "bundled",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    max_tokens: int | None = None,
    max_context: int | None = None,
    rope_scaling: RopeScaling | None = None,
    quantization: Quantization | None = None,
    kernels: bool | None = None,
    int8_weights: bool = False,
    graphs: bool | None = None,
    compile_layers: bool = False,
    model_options: Mapping[str, Any] | None = None,
    tensor_parallel: bool = False,
    verify: bool = True,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> LanguageModel:
    """Load a model and its tokenizer, and put an engine on it.

    Of a multimodal model the language part is loaded. Weights that are quantized in their
    checkpoint stay so.

    Args:
        name: ``"bundled"``, a folder, a GGUF file, or a Hugging Face id. A string that names an
            existing folder is that folder.
        device: ``"auto"`` takes a GPU if there is one; or ``"cpu"``, ``"cuda"``, ``"cuda:1"``...
        dtype: ``"auto"`` takes the checkpoint's, but float32 for the bundled model on the CPU; or
            ``"float32"``, ``"bfloat16"``, ``"float16"`` (``fp32``, ``bf16``, ``fp16``).
        max_tokens: the engine's cache budget.
        max_context: the longest view in tokens; by default what the model was made for.
        rope_scaling: stretches the rotary table, and with it the context: ``"yarn:4"``,
            ``"linear:2"``, or rope parameters as a config of transformers has them.
        quantization: quantizes the weights on loading: ``"bnb-4bit"``, ``"bnb-8bit"``,
            ``"torchao-int8"``, a mapping with a ``quant_method``, or a quantization config of
            transformers. The library it needs is not installed with this package.
        kernels: let the engine's own kernels compute; by default where they help, see
            :class:`Engine`.
        int8_weights: let linear layers and experts on the CPU compute with weights rounded to 8
            bits: faster, and a little less exact, see :class:`Engine`.
        graphs: record forwards that come again and again, and replay them; by default where that
            can be done, see :class:`Engine`.
        compile_layers: run the model's layers through ``torch.compile``, for GPUs, see
            :class:`Engine`.
        model_options: more for ``from_pretrained`` of transformers, such as ``device_map`` or
            ``attn_implementation``; they are passed on as they are.
        tensor_parallel: split the model over the processes that ``torchrun`` has started: all of
            them load it, process 0 uses it, and the others :meth:`~LanguageModel.follow`.
        verify: probe that the engine gives the logits of the model's plain forward.
        revision: of a Hugging Face id: a branch, a tag or a commit.
        on_progress: told how far the load is. Without it, transformers shows its bar for the
            weights if stderr is a terminal. (A download is shown by huggingface_hub's own bars.)

    Raises:
        ModelError: it cannot be loaded; the message is one sentence.
        UnsupportedModelError: it could be loaded, but not run exactly.
        ConfigError: ``max_tokens`` or ``max_context`` is no whole number above 0, the context is
            too short for the check of the model on loading, the rope scaling does not fit, or
            kernels, int8 weights, graphs or compiled layers are asked for and cannot be had.
    """
    for option, value in (("max_tokens", max_tokens), ("max_context", max_context)):
        if value is not None and not (is_whole(value) and value > 0):
            raise ConfigError(
                f"{option} is {value!r}, but must be a whole number above 0, or None."
            )
    report, options = on_progress or _ignore, model_options or {}
    check_options(options, device)
    place, precision = find_device(device), find_dtype(dtype)
    scaling = None if rope_scaling is None else parse_rope_scaling(rope_scaling)
    checkpoint = find_checkpoint(name, revision)
    precision = loading_dtype(checkpoint, precision, place)
    with quiet_transformers(on_progress):
        report(LoadProgress(stage="config"))
        config = read_config(checkpoint, scaling)
        if tensor_parallel:
            options = split_options(config, checkpoint.name, options, device)
        report(LoadProgress(stage="tokenizer"))
        tokenizer = read_tokenizer(checkpoint)
        report(LoadProgress(stage="weights"))
        model = read_weights(
            checkpoint,
            config,
            dtype=precision,
            device=place,
            quantization=quantization,
            int8=int8_weights,
            options=options,
        )
    report(LoadProgress(stage="check"))
    from hogwild_agents.engine import Engine, ParallelEngine

    kind = ParallelEngine if (model.tp_size or 1) > 1 else Engine
    engine = kind(
        model,
        max_tokens=max_tokens,
        max_context=max_context,
        kernels=kernels,
        int8_weights=int8_weights,
        graphs=graphs,
        compile_layers=compile_layers,
        verify=verify,
    )
    return LanguageModel(name=checkpoint.name, engine=engine, tokenizer=tokenizer)


def _ignore(progress: LoadProgress) -> None:
    pass
