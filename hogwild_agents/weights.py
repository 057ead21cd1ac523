"""Weights: the model of a checkpoint, whole and where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hogwild_agents.checkpoint import Checkpoint, read_json, reason_of
from hogwild_agents.errors import ModelError
from hogwild_agents.model_class import language_class, text_class
from hogwild_agents.quantization import quantization_config, quantization_of

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
        ModelError: an option is given elsewhere, or contradicts the device.
    """
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
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Return the model with all its weights, where it belongs.

    Args:
        checkpoint: where it is.
        config: its config.
        dtype: a torch dtype, or ``"auto"``.
        device: where it goes, unless an option says so.
        quantization: how weights are to be quantized on loading.
        options: what else ``from_pretrained`` of transformers is told.

    Raises:
        ModelError: the weights are missing, broken, incomplete, or do not fit in the memory.
    """
    import torch

    elsewhere = checkpoint.gguf or _ELSEWHERE.intersection(options or ())
    if checkpoint.folder is not None and not elsewhere:
        _check_weight_files(checkpoint.folder)
    wanted = quantization_config(quantization, dtype)
    packed = bool(wanted or checkpoint.gguf or quantization_of(config))
    told = ["quantization"] * bool(wanted) + ["model_options"] * bool(options)
    options = _placing(options or {}, device, packed)
    given = {"dtype": dtype, "quantization_config": wanted, **options}
    try:
        with _bar_for_unpacking(checkpoint):
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
def _bar_for_unpacking(checkpoint: Checkpoint) -> Iterator[None]:
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

    kept = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        kept.update(model._keep_in_fp32_modules or ())
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


def _check_weight_files(folder: Path) -> None:
    """Find missing and broken weight files by their heads, before much is read."""
    from safetensors import SafetensorError, safe_open

    for file in _weight_files(folder):
        if not file.is_file():
            raise ModelError(
                f"The folder {str(folder)!r} lacks the weight file {file.name!r}: fetch or save "
                "the model again."
            )
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"The weight file {str(file)!r} is broken or cut short ({reason_of(error)}): fetch "
                "or save the model again."
            ) from error


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
