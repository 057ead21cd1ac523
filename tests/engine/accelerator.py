"""Accelerator: a device that is not the CPU, of torch's PrivateUse1. It stays for the process.

Underneath its tensors are the CPU's. As a GPU it computes with none of others', unless they are
single numbers; as Apple's it has no float64. It notes what is read from it.

``python -m tests.engine.accelerator FAMILY...`` prints a line of JSON for each: the largest error
of an engine's logits there against the CPU's, of their spread, what was read in a tick, and what
was brought there. For ``tokens`` it prints what was sampled there, and on the CPU, and what was
read for the former; for ``scores`` the largest error of what is sampled from, and what was brought
there for a second token.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from hogwild_agents.engine import Engine, Feed, Sampler, SamplingParams, sample

NAME = "far"
READ: list[tuple[str, tuple[int, ...]]] = []
"""What was read from the device since somebody has cleared this: by which operator, its shape."""
WRITTEN: list[tuple[int, ...]] = []
"""The shapes of what was brought to it."""
_setup_privateuseone_for_python_backend(NAME)
WAYS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(temperature=0.7, top_k=20, min_p=0.01),
    SamplingParams(repetition_penalty=1.2, banned=frozenset({3, 4}), bias={5: 2.0}),
)
_DEVICE = torch.device(NAME, 0)
_CPU = torch.device("cpu")
_INDEXED = ("index.Tensor", "index_put_", "_index_put_impl_")
"""Operators that take indices of the CPU."""
_FACTORIES = (
    "arange", "arange.start", "arange.start_step", "empty.memory_format", "empty_strided"
)  # fmt: skip
_aten = torch.ops.aten


class Far(Tensor):
    """A tensor of the device."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor, requires_grad: bool = False) -> Far:
        if near.dtype == torch.float64:
            raise TypeError(f"Cannot convert an {NAME} Tensor to float64 dtype.")
        result: Far = Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=_DEVICE,
            requires_grad=requires_grad,
        )
        result.near = near
        return result

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator."""
        return _run(func, args, kwargs or {})

    def data_ptr(self) -> int:
        """Return where it lies."""
        return self.near.data_ptr()

    def tolist(self) -> Any:
        """Read it."""
        _note("tolist", self)
        return self.near.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Far({self.near!r})"


def near(value: Any) -> Any:
    """Return what a value is underneath; nothing is noted."""
    return value.near if isinstance(value, Far) else value


def _note(name: str, tensor: Tensor) -> None:
    READ.append((name, tuple(tensor.shape)))


def _run(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    name = func._schema.name.removeprefix("aten::")
    if name == "copy_":
        return _copied(args[1], args[0])
    tensors = [one for one in tree_leaves((args, options)) if isinstance(one, Tensor)]
    device = options.get("device")
    there = device is None or torch.device(device).type == NAME
    if name == "_to_copy":
        if not there:
            _note("to", args[0])
        options = {key: options[key] for key in options if key != "non_blocking"}
    elif name == "_local_scalar_dense":
        _note("item", args[0])
    elif name not in _INDEXED:
        _check_alike(name, tensors)
    options = {key: _CPU if key == "device" else value for key, value in options.items()}
    options.pop("pin_memory", None)
    result = _computed(func, tree_map(near, args), tree_map(near, options))
    known = {id(one.near): one for one in tensors if isinstance(one, Far)}
    return tree_map(lambda one: _far(one, known), result) if there else result


def _check_alike(name: str, tensors: Sequence[Tensor]) -> None:
    others = [one for one in tensors if one.dim() and not isinstance(one, Far)]
    if others:
        raise RuntimeError(f"{name} is given tensors on {NAME} and on the CPU: {others[0].shape}")


def _computed(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    if func is _aten.histc.default and not args[0].is_floating_point():  # GPUs count integers, too
        return func(args[0].float(), *args[1:], **options).to(args[0].dtype)
    return func(*args, **options)


def _far(value: Any, known: Mapping[int, Far]) -> Any:
    if not isinstance(value, Tensor):
        return value
    if id(value) not in known:
        return Far(value)
    found = known[id(value)]
    if found.shape != value.shape or found.stride() != value.stride():
        raise NotImplementedError("A tensor would be laid out anew.")
    return found


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(source, Far) and not isinstance(target, Far):
        _note("copy", source)
    elif isinstance(target, Far) and not isinstance(source, Far):
        WRITTEN.append(tuple(source.shape))
    near(target).copy_(near(source))
    return target


def _factory(operator: Any) -> Any:
    def make(*args: Any, **options: Any) -> Far:
        return Far(operator(*args, **{**options, "device": _CPU, "pin_memory": None}))

    return make


_library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
_library.impl(_aten._copy_from.default, _copied, "PrivateUse1")
for _name in _FACTORIES:
    _packet, _, _overload = _name.partition(".")
    _operator = getattr(getattr(_aten, _packet), _overload or "default")
    _library.impl(_operator, _factory(_operator), "PrivateUse1")


def _play(model: Any) -> tuple[list[Tensor], Mapping[str, Any]]:
    """Return the logits of some ticks, what took part, and what went to and fro in one of them."""
    found = []
    with Engine(model) as engine:
        history, own, other = (engine.block(name) for name in ("history", "own", "other"))
        engine.forward([Feed(history, [history], range(1, 20))])
        for token in range(5, 9):
            READ.clear()
            WRITTEN.clear()
            feeds = [Feed(own, [history, other, own], (token,)),
                     Feed(other, [history, own, other], (token + 1, 3))]  # fmt: skip
            found.append(engine.forward(feeds))
            noted = {"kernels": engine.kernels, "graphs": engine.graphs,
                     "read": list(READ), "written": list(WRITTEN)}  # fmt: skip
        engine.move(own, history)
        engine.truncate(other, 3)
        fork = engine.fork(other)
        found.append(engine.forward([Feed(fork, [history, fork], (5,))]))
    return [near(one) for one in found], noted


def _draw(logits: Tensor, params: SamplingParams) -> list[int]:
    """Return some tokens for each row."""
    READ.clear()
    samplers = [Sampler(params, seed=row) for row in range(len(logits))]
    contexts = [lambda: [1, 2, 3]] * len(logits)
    return [one.token for _ in range(3) for one in sample(logits, samplers, contexts)]


def _tokens() -> Iterator[Mapping[str, Any]]:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    for params in WAYS:
        expected, found = (_draw(one, params) for one in (logits, logits.to(NAME)))
        yield {"way": repr(params), "here": expected, "there": found, "read": list(READ)}


def _scores() -> Iterator[Mapping[str, Any]]:
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    for params in WAYS:
        sampler = Sampler(params)
        for _ in range(2):
            WRITTEN.clear()
            found = sampler.scores(logits.to(NAME), lambda: [1, 2, 3])
        error = (near(found) - sampler.scores(logits, lambda: [1, 2, 3])).nan_to_num().abs().max()
        yield {"way": repr(params), "error": float(error), "written": WRITTEN[1:]}


def _logits(family: str, there: Callable[[], AbstractContextManager[object]]) -> Mapping[str, Any]:
    from tests.engine.families import SUPPORTED

    model = SUPPORTED[family].build()
    expected, _ = _play(model)
    with there():
        found, noted = _play(model.to(NAME))
    pairs = zip(found, expected, strict=True)
    error = max(float((one - other).abs().max() / other.std()) for one, other in pairs)
    return {"family": family, "error": error, **noted}


def main(
    names: Sequence[str], there: Callable[[], AbstractContextManager[object]] = nullcontext
) -> None:
    """Print what was found; engines are used ``there``."""
    warnings.simplefilter("ignore")
    others = {"tokens": _tokens, "scores": _scores}
    for name in names:
        for line in others[name]() if name in others else [_logits(name, there)]:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
