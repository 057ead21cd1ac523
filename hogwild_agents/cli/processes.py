"""Processes: the command under ``torchrun``. Process 0 runs it; the others hold their shares.

The others read no arguments and no files but the model's: process 0 tells them what to load as
soon as it has found the config and the tokenizer to be right, leads them while it uses the model,
and lets them end when it has ended in order. Where it fails, torchrun ends them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hogwild_agents.errors import HogwildError

if TYPE_CHECKING:
    from hogwild_agents.engine.link import Link

__all__ = ["are_several", "dismiss", "follow", "leads", "tell"]

FAILED = 2
_TIMEOUT = timedelta(hours=1)
"""How long processes wait for each other: they may load their shares at different speeds."""


def are_several() -> bool:
    """Whether ``torchrun`` has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Whether this process is the one that runs the command."""
    return not are_several() or os.environ.get("RANK", "0") == "0"


def tell(options: Mapping[str, Any], number: int | None) -> None:
    """As process 0, let the others load a model with these options, and compute with N threads."""
    _send(json.dumps([options, number]))


def dismiss() -> None:
    """As process 0, let the others end: no model is to come."""
    _send("")


def follow() -> int:
    """Be one of the others, for as many models as the command uses; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is under way yet
    try:
        while message := _receive():
            _follow(*json.loads(message))
    except HogwildError as error:
        print(f"hogwild: process {os.environ.get('RANK')}: {error}", file=sys.stderr)
        return FAILED
    return 0


def _follow(options: dict[str, Any], number: int | None) -> None:
    from hogwild_agents import load_model
    from hogwild_agents.engine.threads import limited

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # process 0 heeds them, and ends this one in order
    warnings.simplefilter("ignore")  # it says the same
    with (
        limited(number),
        load_model(**options, tensor_parallel=True, on_progress=_say_nothing) as model,
    ):
        model.follow()


def _send(message: str) -> None:
    link = _join()
    link.send(list(message.encode()))
    link.close()


def _receive() -> str:
    link = _join()
    message = bytes(link.receive()).decode()
    link.close()
    return message


def _join() -> Link:
    import torch
    import torch.distributed as dist

    from hogwild_agents.engine.link import Link

    if not dist.is_initialized():
        device = torch.accelerator.current_accelerator() or torch.device("cpu")
        backend = dist.get_default_backend_for_device(device)
        dist.init_process_group(backend, timeout=_TIMEOUT)
    return Link()


def _say_nothing(progress: object) -> None:
    pass
