"""Facts: what a model is, and whether it runs, from the model itself or from its config alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from hogwild_agents.config import LayoutName, RunConfig
from hogwild_agents.text import banned_while_reasoning, decode

if TYPE_CHECKING:
    from hogwild_agents import LanguageModel
    from hogwild_agents.engine import Engine

STAND_IN = "Hogwild"
EXAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model is; None where it is not known.

    Attributes:
        name: as it was asked for.
        model_type: the kind of its config.
        architecture: the transformers class.
        parameters: how many.
        quantization: how its weights are quantized.
        weight_bytes: what they take in memory; None also for quantized ones that are not loaded.
        free_bytes: of memory, where they would be loaded; None if they are.
        int8_bytes: what copies of weights take that are rounded to 8 bits.
        kernels: what the engine's own compute; None if that is not known before loading.
        compiled_layers: how many layers run through ``torch.compile``.
        dtype, device: as loaded.
        layers: of the decoder.
        vocabulary: how many token ids.
        attention: what its layers do, one line for each thing.
        layouts: those that it can be run with.
        from_config: nothing but the config was read; what was measured, was measured on a small
            copy with random weights.
        tried_layers: how many layers that copy had; None if there was none.
        not_tried: why nothing was measured on it.
        error: how far one worker's logits are from the plain forward's, relative to their spread.
        error_bound: how much of that is rounding.
        context: the longest view in tokens; None without a bound.
        trained_context: the longest view that the model was made for.
        cache_bytes_per_1000_tokens: what keys and values take, whoever sees them.
        latent_numbers: a token's numbers per layer before MLA expands them; None without MLA.
        chat_template: whether there is one; without it no team can be run.
        opens_think: whether the template opens ``<think>``; if not, the runtime does.
        banned_while_reasoning: how many tokens no worker may write.
        banned_examples: some of them.
        sampling: the model's own way, as far as it differs from plain sampling.
    """

    name: str
    model_type: str
    architecture: str
    parameters: int | None
    quantization: str | None
    weight_bytes: int | None
    free_bytes: int | None = None
    int8_bytes: int | None
    kernels: tuple[str, ...] | None
    compiled_layers: int = 0
    dtype: str
    device: str | None
    layers: int | None
    vocabulary: int
    attention: Sequence[str]
    layouts: Sequence[str] = get_args(LayoutName)
    from_config: bool = False
    tried_layers: int | None = None
    not_tried: str | None = None
    error: float | None
    error_bound: float | None
    context: int | None
    trained_context: int | None
    cache_bytes_per_1000_tokens: int | None
    latent_numbers: int | None
    chat_template: bool | None
    opens_think: bool | None
    banned_while_reasoning: int | None
    banned_examples: Sequence[str]
    sampling: dict[str, float]

    @property
    def fits(self) -> bool:
        """Whether the weights fit into the memory that is free, as far as is known."""
        if self.weight_bytes is None or self.free_bytes is None:
            return True
        return self.weight_bytes <= self.free_bytes


def of_model(model: LanguageModel) -> ModelFacts:
    """Return the facts of a loaded model."""
    from hogwild_agents.quantization import quantization_of

    engine, config = model.engine, model.engine.model.config
    quantization = quantization_of(config)
    text = config.get_text_config(decoder=True)
    return ModelFacts(
        name=model.name,
        model_type=config.model_type,
        architecture=type(engine.model).__name__,
        parameters=engine.model.num_parameters(),
        quantization=quantization,
        weight_bytes=engine.model.get_memory_footprint(return_buffers=quantization is not None),
        int8_bytes=engine.int8_bytes,
        kernels=engine.kernels,
        compiled_layers=engine.compiled_layers,
        dtype=_short(engine.dtype),
        device=str(engine.device),
        layers=getattr(text, "num_hidden_layers", None),
        vocabulary=engine.vocab_size,
        attention=engine.adapter.describe(),
        error=engine.probe_error,
        error_bound=engine.probe_bound,
        context=engine.context_length,
        trained_context=_trained(engine),
        cache_bytes_per_1000_tokens=1000 * engine.bytes_per_token,
        latent_numbers=_latent(text),
        **_of_tokenizer(model.tokenizer, model.reasoning_bans, model.stop_ids),
        sampling=_sampling(model.sampling),
    )


def of_config(config: RunConfig) -> ModelFacts:
    """Return what the config of a model tells, and what a small copy shows; no weights are read.

    Raises:
        ModelError: it cannot be read.
        UnsupportedModelError: it cannot be run exactly.
        ConfigError: the rope scaling does not fit it.
    """
    from hogwild_agents.checkpoint import (
        find_checkpoint,
        find_device,
        find_dtype,
        loading_dtype,
        quiet_transformers,
        read_config,
    )
    from hogwild_agents.engine.memory import available
    from hogwild_agents.model_class import find_class
    from hogwild_agents.quantization import quantization_of
    from hogwild_agents.rope_scaling import parse_rope_scaling

    place, dtype = find_device(config.device), find_dtype(config.dtype)
    checkpoint = find_checkpoint(config.model, config.revision)
    scaling = parse_rope_scaling(config.rope_scaling) if config.rope_scaling else None
    with quiet_transformers(lambda progress: None):  # the copy's weights are no news
        found = read_config(checkpoint, scaling)
        text = found.get_text_config(decoder=True)
        dtype = loading_dtype(checkpoint, dtype, place)
        if dtype == "auto":
            dtype = getattr(found, "dtype", None) or find_dtype("float32")
        parameters, quantization = _counted(found), quantization_of(found)
        known = parameters is not None and quantization is None
        return ModelFacts(
            name=config.model,
            model_type=found.model_type,
            architecture=find_class(found).__name__,
            parameters=parameters,
            quantization=quantization,
            weight_bytes=parameters * dtype.itemsize if known else None,
            free_bytes=available(place),
            int8_bytes=None,
            kernels=None,
            dtype=_short(dtype),
            device=None,
            layers=getattr(text, "num_hidden_layers", None),
            vocabulary=text.vocab_size,
            latent_numbers=_latent(text),
            from_config=True,
            **_tried(found, config.max_context, dtype),
            **_tokenizer_alone(checkpoint, found),
            sampling={},
        )


# -- a small copy


def _counted(config: Any) -> int | None:
    from hogwild_agents.cli.stand_in import count_parameters

    try:
        return count_parameters(config)
    except Exception:  # a config that its class cannot make a model of
        return None


def _tried(config: Any, max_context: int | None, dtype: Any) -> dict[str, Any]:
    """Return what the engine makes of a small copy.

    Raises:
        UnsupportedModelError: the engine refuses it.
    """
    from hogwild_agents.cli.stand_in import build_stand_in
    from hogwild_agents.engine.adapter import Adapter

    unknown = dict.fromkeys(
        ("error", "error_bound", "context", "trained_context", "cache_bytes_per_1000_tokens")
    )
    try:
        copy = build_stand_in(config)
    except Exception as error:  # whatever a class makes of sizes that no checkpoint has
        reason = " ".join(str(error).split()) or type(error).__name__
        return {**unknown, "attention": [], "not_tried": f"none could be made: {reason}"}
    engine, telling = _engine_on(copy.model, max_context)
    with engine:
        found, likeness = engine.adapter, copy.likeness
        if likeness is not None:  # as many layers of each kind as the model has
            found = Adapter(tuple(found.layers[number] for number in likeness))
        size = sum(_bytes(shape, dtype) for shape in found.shapes)
        return {
            "attention": found.describe(),
            "tried_layers": len(engine.adapter.layers),
            "not_tried": None if telling else "in it rounding grows too much to tell anything",
            "error": engine.probe_error,
            "error_bound": engine.probe_bound,
            "context": engine.context_length,
            "trained_context": _trained(engine),
            "cache_bytes_per_1000_tokens": None if likeness is None else 1000 * size,
        }


def _engine_on(network: Any, max_context: int | None) -> tuple[Engine, bool]:
    """Return an engine on a model with random weights, and whether its probe tells anything.

    Random layers may magnify rounding: if a model's own logits do not bear a change of one part in
    ten million, an engine's need not be alike either.

    Raises:
        UnsupportedModelError: the engine refuses the model, and not for rounding.
    """
    from hogwild_agents.cli.stand_in import is_steady
    from hogwild_agents.engine import Engine
    from hogwild_agents.errors import UnsupportedModelError

    try:
        return Engine(network, max_context=max_context), True
    except UnsupportedModelError:
        if is_steady(network):
            raise
        return Engine(network, max_context=max_context, verify=False), False


def _bytes(shape: Any, dtype: Any) -> int:
    """Return what one token of a layer takes in a dtype."""
    return int(shape.bytes_per_token * dtype.itemsize // shape.dtype.itemsize)


# -- parts


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _trained(engine: Engine) -> int | None:
    from hogwild_agents.engine.context import find_context

    return find_context(engine.model, None).trained


def _latent(text: Any) -> int | None:
    rank, turning = (getattr(text, name, None) for name in ("kv_lora_rank", "qk_rope_head_dim"))
    return rank + turning if rank and turning else None


def _tokenizer_alone(checkpoint: Any, config: Any) -> dict[str, Any]:
    """Return the facts of a checkpoint's tokenizer, if it has one."""
    from hogwild_agents.checkpoint import read_tokenizer
    from hogwild_agents.errors import ModelError

    try:
        tokenizer = read_tokenizer(checkpoint)
    except ModelError:
        return _of_tokenizer(None, (), ())
    ends = getattr(config.get_text_config(decoder=True), "eos_token_id", None)
    stops = [ends] if isinstance(ends, int) else ends or []
    return _of_tokenizer(tokenizer, banned_while_reasoning(tokenizer, stop_ids=stops), stops)


def _of_tokenizer(tokenizer: Any, banned: Iterable[int], stops: Iterable[int]) -> dict[str, Any]:
    if tokenizer is None:
        names = ("chat_template", "opens_think", "banned_while_reasoning")
        return {**dict.fromkeys(names), "banned_examples": []}
    template = bool(getattr(tokenizer, "chat_template", None))
    banned = sorted(banned)
    return {
        "chat_template": template,
        "opens_think": template and _opens_think(tokenizer),
        "banned_while_reasoning": len(banned),
        "banned_examples": _examples(tokenizer, banned, set(stops)),
    }


def _examples(tokenizer: Any, banned: Sequence[int], stops: set[int]) -> list[str]:
    """Return the texts of a few tokens: those that end a turn, then the shortest."""
    texts = [(token not in stops, decode(tokenizer, [token])) for token in banned]
    ordered = sorted(texts, key=lambda one: (one[0], len(one[1]), one[1]))
    return list(dict.fromkeys(text for _, text in ordered if text.strip()))[:EXAMPLES]


def _opens_think(tokenizer: Any) -> bool:
    rendered: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": STAND_IN}],
        add_generation_prompt=True,
        tokenize=False,
        enable_thinking=True,
        thinking=True,
    )
    answer = rendered[rendered.rfind(STAND_IN) :]
    return answer.rfind("<think>") > answer.rfind("</think>")


def _sampling(sampling: Any) -> dict[str, float]:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    plain = type(sampling)()
    return {
        name: value for name in names if (value := getattr(sampling, name)) != getattr(plain, name)
    }
