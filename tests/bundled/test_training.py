"""The training forward equals the explicit reference and the model's plain forward."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hogwild_agents.bundled.net import Net, Shape
from hogwild_agents.bundled.rows import collate, make_row
from hogwild_agents.bundled.task import Distribution
from hogwild_agents.bundled.tokenizer import build_tokenizer
from hogwild_agents.bundled.traces import Layout, Scenario, Trace, draw_scenario, run_oracle
from hogwild_agents.bundled.train import export

from .reference import Reference

SMALL = Distribution(tasks=(2, 3), terms=(2, 2))


def random_net(layers: int = 2) -> Net:
    """A net whose every weight matters."""
    torch.manual_seed(0)
    net = Net(Shape(vocabulary=build_tokenizer().get_vocab_size(), layers=layers))
    for parameter in net.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
        else:
            torch.nn.init.uniform_(parameter, 0.7, 1.5)
    return net


def scenarios(workers: int, number: int) -> list[Scenario]:
    rng = random.Random(workers)
    return [draw_scenario(rng, SMALL, workers) for _ in range(number)]


@torch.no_grad()
def check_against_reference(net: Net, traces: list[Trace]) -> int:
    """Compare all logits. Returns how many closing tokens saw others close."""
    batch = collate([make_row(trace) for trace in traces])
    logits = net.logits(net(batch))
    length = batch.shape[3]
    reference = Reference(net.state_dict())
    for row, trace in enumerate(traces):
        expected = reference.run(trace)
        counts: dict[int, int] = defaultdict(int)
        for number, step in enumerate(trace.steps):
            for index in range(len(step.tokens)):
                at = step.worker * length + counts[step.worker]
                counts[step.worker] += 1
                assert batch.targets[row, at] == step.targets[index]
                torch.testing.assert_close(
                    logits[row, at], expected[number, index], atol=1e-4, rtol=0
                )
    return len(batch.fix_rows)


def test_drawn_runs_equal_the_reference() -> None:
    net = random_net()
    for workers in (1, 2, 3):
        traces = [run_oracle(scenario) for scenario in scenarios(workers, 2)]
        check_against_reference(net, traces)


def test_steps_that_close_together_equal_the_reference() -> None:
    rng = random.Random(3)
    problem = draw_scenario(rng, Distribution(tasks=(4, 4), terms=(2, 2)), 3).problem
    fixes = 0
    for layout in (Layout.COMBINED, Layout.INTERLEAVED):
        scenario = Scenario(problem=problem, names=("Zed", "Bob", "Alice"), layout=layout)
        fixes += check_against_reference(random_net(), [run_oracle(scenario)])
    assert fixes


@torch.no_grad()
def test_export_loads_plainly_and_gives_the_same_logits(tmp_path: Path) -> None:
    net = random_net()
    export(net, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == "<|end|>"
    rounded = {name: value.bfloat16().float() for name, value in net.state_dict().items()}
    net.load_state_dict(rounded)
    # Without headers a lone worker's own text would follow the prompt; compare the prompt part.
    trace = run_oracle(scenarios(1, 1)[0])
    reference = Reference(rounded)
    prompt = reference._prefill(tuple(trace.prompt))
    hidden = model(torch.tensor([trace.prompt]), output_hidden_states=True)
    layer = model.model.layers[1]
    normed = layer.input_layernorm(hidden.hidden_states[1][0])
    values = layer.self_attn.v_proj(normed).view(len(trace.prompt), 2, 32)
    expected = torch.stack([entry[1][1] for entry in prompt])
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=0)
