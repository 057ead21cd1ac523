"""Weights: the model of a checkpoint, whole and where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hogwild_agents.checkpoint import Checkpoint, read_json, reason_of
from hogwild_agents.errors import ModelError
from hogwild_agents.model_class import language_class, outline_of, precise_parts, text_class
from hogwild_agents.quantization import quantization_config, quantization_of
from hogwild_agents.room import TensorHead, check_room, in_gib

if TYPE_CHECKING:
    import torch

__all__ = ["check_options", "read_weights"]

_OWN = {
    "config": "it is read from the checkpoint",
    "dtype": "give dtype",
    "torch_dtype": "give dtype",
    "gguf_file": "name the .gguf file as the model",
    "ignore_mismatched_sizes": "a tensor of another shape is an error",
    "local_files_only": "a folder is read without the network, and HF_HUB_OFFLINE=1 forbids it",
    "output_loading_info": "it is checked here",
    "quantization_config": "give quantization",
    "revision": "give revision",
    "state_dict": "the weights are the checkpoint's",
    "trust_remote_code": "code that comes with a checkpoint is never run",
}
_ELSEWHERE = {"subfolder", "use_safetensors", "variant"}
_PLACING = ("device_map", "device_mesh", "distributed_config", "tp_plan", "tp_size")


def check_options(options: Mapping[str, Any], device: Any) -> None:
    """Check what is passed on to ``from_pretrained``.

    Raises:
        ModelError: they are no mapping, or an option is given elsewhere, or contradicts the device.
    """
    if not isinstance(options, Mapping):
        raise ModelError(f"model_options is {options!r}: give a mapping of names to values.")
    for name in options:
        if name in _OWN:
            raise ModelError(f"{name!r} cannot stand in model_options: {_OWN[name]}.")
    placing = [name for name in _PLACING if name in options]
    if placing and device != "auto":
        raise ModelError(
            f"The device is {str(device)!r}, but {placing[0]!r} in model_options says where the "
            "model goes: leave one of them out."
        )


def read_weights(
    checkpoint: Checkpoint,
    config: Any,
    *,
    dtype: Any,
    device: torch.device,
    quantization: Any = None,
    int8: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return the model with all its weights, where it belongs.

    Args:
        checkpoint: where it is.
        config: its config.
        dtype: a torch dtype, or ``"auto"``.
        device: where it goes, unless an option says so.
        quantization: how weights are to be quantized on loading.
        int8: whether linear layers and experts on the CPU are to get copies rounded to 8 bits.
        options: what else ``from_pretrained`` of transformers is told.

    Raises:
        ModelError: the weights are missing, broken, incomplete, or do not fit in the memory.
    """
    import torch

    elsewhere = checkpoint.gguf or _ELSEWHERE.intersection(options or ())
    heads: list[TensorHead] = []
    if checkpoint.folder is not None and not elsewhere:
        heads = _read_heads(checkpoint.folder)
    elif not elsewhere:
        heads = _cached_heads(checkpoint, options or {})
    wanted = quantization_config(quantization, dtype)
    packed = bool(wanted or checkpoint.gguf or quantization_of(config))
    told = ["quantization"] * bool(wanted) + ["model_options"] * bool(options)
    if not packed and not any(name in (options or ()) for name in _PLACING):
        _check_room(checkpoint, config, heads, dtype, device, int8)
    options = _placing(options or {}, device, packed)
    given = {"dtype": dtype, "quantization_config": wanted, **options}
    try:
        with bar_for_unpacking(checkpoint):
            model, info = _load(checkpoint, config, given)
    except torch.OutOfMemoryError as error:
        raise _too_large(checkpoint, device) from error
    except Exception as error:
        raise checkpoint.error("The weights", error, told) from error
    _check_complete(checkpoint, info)
    if packed and dtype != "auto" and getattr(model, "hf_quantizer", None) is None:
        _cast(model, dtype)
    if packed or any(name in options for name in _PLACING):
        return model
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise _too_large(checkpoint, device) from error


def _load(checkpoint: Checkpoint, config: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Return a model and what transformers tells of its loading."""
    options = {
        **options,
        "ignore_mismatched_sizes": True,  # they are told below, by name
        "output_loading_info": True,
        **checkpoint.options,
    }
    kind, own = language_class(config)
    try:
        loaded: tuple[Any, Any] = kind.from_pretrained(checkpoint.place, config=own, **options)
    except ImportError:  # a tower may need a library that no text needs
        alone = text_class(config)
        if alone is None:
            raise
        kind, own = alone
        loaded = kind.from_pretrained(checkpoint.place, config=own, **options)
        if loaded[1]["missing_keys"]:
            raise
    return loaded


@contextmanager
def bar_for_unpacking(checkpoint: Checkpoint) -> Iterator[None]:
    """Let the bar shown while a GGUF file is unpacked be like the others: one that can be taken."""
    if checkpoint.gguf is None:
        yield
        return
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    reader: Any = modeling_gguf_pytorch_utils
    before, reader.tqdm = reader.tqdm, logging.tqdm
    try:
        yield
    finally:
        reader.tqdm = before


def _cast(model: Any, dtype: Any) -> None:
    """Give weights that were unpacked on reading the dtype that was asked for.

    transformers reads what was not packed beside them in the dtype of the file. What a model wants
    in float32 gets that.
    """
    import torch

    kept = precise_parts(model, dtype)
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point():
            precise = any(part in name for part in kept)
            tensor.data = tensor.data.to(torch.float32 if precise else dtype)


def _placing(options: Mapping[str, Any], device: torch.device, packed: bool) -> dict[str, Any]:
    """Return the options, with one that puts quantized weights on the device as they are read.

    Once packed, they cannot be moved or cast. Without accelerate transformers takes no such
    option; then they are read where they stay, on the CPU.
    """
    placed = any(name in options for name in _PLACING)
    movable = device.type == "cpu" and find_spec("accelerate") is None
    if placed or not packed or movable:
        return dict(options)
    return {**options, "device_map": {"": device}}


# -- what can be wrong


def _read_heads(folder: Path) -> list[TensorHead]:
    """Return what the weight files say of their tensors, before much is read; none of older files.

    Raises:
        ModelError: a file is missing, broken, or too large to be mapped.
    """
    from safetensors import SafetensorError, safe_open

    heads: list[TensorHead] = []
    for file in _weight_files(folder):
        if not file.is_file():
            raise ModelError(
                f"The folder {str(folder)!r} lacks the weight file {file.name!r}: fetch or save "
                "the model again."
            )
        try:
            with safe_open(file, framework="pt") as tensors:
                parts = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118
                heads += [(tuple(part.get_shape()), part.get_dtype()) for part in parts]
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"The weight file {str(file)!r} is broken or cut short ({reason_of(error)}): fetch "
                "or save the model again."
            ) from error
        except RuntimeError as error:  # torch's: Linux maps no more at once than it has memory
            raise ModelError(
                f"The weight file {str(file)!r} of {in_gib(file.stat().st_size)} cannot be mapped "
                f"into the memory ({reason_of(error)}): save the model again in smaller files, by "
                "a max_shard_size, or take a smaller model."
            ) from error
    return heads


def _cached_heads(checkpoint: Checkpoint, options: Mapping[str, Any]) -> list[TensorHead]:
    """Return what the files of a Hugging Face id say, if they are all on this machine already."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "model.safetensors.index.json"):
        found = try_to_load_from_cache(
            checkpoint.name, name, cache_dir=options.get("cache_dir"), revision=checkpoint.revision
        )
        if isinstance(found, str):
            with suppress(ModelError):  # transformers fetches what is missing
                return _read_heads(Path(found).parent)
    return []


def _check_room(
    checkpoint: Checkpoint,
    config: Any,
    heads: list[TensorHead],
    dtype: Any,
    device: torch.device,
    int8: bool,
) -> None:
    """Check that there is memory for what does not stay in the files, also on the way to a GPU.

    Raises:
        ModelError: there is not.
    """
    import torch

    own = getattr(language_class(config)[1], "dtype", None) if dtype == "auto" else dtype
    on_cpu = device.type == "cpu"
    check_room(
        checkpoint.where,
        heads,
        lambda: outline_of(config)[1],
        own if isinstance(own, torch.dtype) else None,
        int8=int8 and on_cpu,
        direct=on_cpu,
    )


def _weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files the model consists of; none if it has older ones."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        weights = read_json(index)
        names = weights.get("weight_map") if isinstance(weights, dict) else None
        if not isinstance(names, dict) or not names:
            raise ModelError(
                f"{str(index)!r} lists no weight files: fetch or save the model again."
            )
        return [folder / str(name) for name in sorted(set(names.values()))]
    older = ("pytorch_model.bin", "pytorch_model.bin.index.json")
    if any((folder / name).exists() for name in older):
        return []
    raise ModelError(
        f"The folder {str(folder)!r} has no weights (no model.safetensors): fetch or save the "
        "model again."
    )


def _check_complete(checkpoint: Checkpoint, info: dict[str, Any]) -> None:
    missing, unfit = sorted(info["missing_keys"]), list(info["mismatched_keys"])
    if missing:
        what = f"lack {len(missing)} of its tensors, such as {missing[0]!r}"
    elif unfit:
        name, found, wanted = unfit[0]
        what = f"do not fit its config: {name!r} is {tuple(found)}, but must be {tuple(wanted)}"
    else:
        return
    raise ModelError(f"The weights of {checkpoint.where!r} {what}: fetch or save the model again.")


def _too_large(checkpoint: Checkpoint, device: torch.device) -> ModelError:
    return ModelError(
        f"The weights of {checkpoint.where!r} do not fit into the memory of {str(device)!r}: give "
        "another device, a smaller dtype, a quantization, or a smaller model."
    )
