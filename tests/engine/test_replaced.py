"""Modules compute otherwise only while they are replaced, and nobody else's doing is undone."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine import Engine
from hogwild_agents.engine.replaced import Replaced
from tests.engine.families import EVERY


def doubled(states: Tensor) -> Tensor:
    return 2 * states


def replaced() -> tuple[nn.Module, Replaced]:
    module = nn.ReLU()
    return module, Replaced({module: doubled}, size=3)


STATES = torch.tensor([-1.0, 1.0])


@torch.no_grad()
def test_a_module_computes_otherwise_until_that_is_undone() -> None:
    module, found = replaced()
    assert module(STATES).tolist() == [-2, 2]
    assert (found.count, found.bytes) == (1, 3)
    for _ in range(2):
        found.undo()
        assert module(STATES).tolist() == [0, 1]
        assert "forward" not in vars(module)
        assert (found.count, found.bytes) == (0, 0)


def test_gradients_are_the_modules_own() -> None:
    module, _ = replaced()
    states = STATES.clone().requires_grad_()
    module(states).sum().backward()
    assert states.grad is not None
    assert states.grad.tolist() == [0, 1]


@torch.no_grad()
def test_what_others_have_put_there_meanwhile_stays() -> None:
    module, found = replaced()
    before = module.forward
    module.forward = lambda states: before(states) + 10
    assert module(STATES).tolist() == [8, 12]
    found.undo()
    assert module(STATES).tolist() == [10, 11]  # what was kept computes as the module does
    module.forward = before
    assert module(STATES).tolist() == [0, 1]


def test_what_others_have_taken_away_is_no_error() -> None:
    module, found = replaced()
    del module.forward
    found.undo()
    assert module(STATES).tolist() == [0, 1]


@torch.no_grad()
def test_copies_compute_as_the_module_does() -> None:
    parts: Any = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])
    file = io.BytesIO()
    found = Replaced(dict.fromkeys(parts, doubled))
    other = copy.deepcopy(parts)
    torch.save(parts, file)
    file.seek(0)
    for one in (other, torch.load(file, weights_only=False)):
        one[0].weight.zero_()  # of its own
        one[0].bias.fill_(3)
        assert one[0](STATES).tolist() == [3, 3]
        assert one[1](STATES).tolist() == [0, 1]
    assert parts[0](STATES).tolist() == [-2, 2]
    found.undo()
    assert parts[0].weight.any()


def test_a_model_is_given_back_whatever_was_done_to_it() -> None:
    model: Any = EVERY["llama"].build().train()
    with Engine(model, int8_weights=True):
        first, second = model.model.layers
        del first.mlp.down_proj.forward
        second.mlp.gate_proj.forward = other = second.mlp.down_proj.forward
    assert model.training
    own = [module for module in model.modules() if "forward" in vars(module)]
    assert own == [second.mlp.gate_proj]
    states = torch.randn(3, second.mlp.down_proj.in_features)
    assert torch.equal(other(states), second.mlp.down_proj(states))
