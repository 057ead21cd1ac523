"""How good is a checkpoint? ``python -m hogwild_agents.bundled.generate FOLDER``.

Greedy runs on held-out problems. Where the model's argmax agrees with the oracle at every token
of a trace, the run is the trace; all others are simulated tick by tick with the training forward
(slow and simple: the engine is for real runs).
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path
from statistics import mean

import torch
from safetensors.torch import load_file
from torch import Tensor

from hogwild_agents.bundled.data import pad_rows
from hogwild_agents.bundled.net import Net, Shape
from hogwild_agents.bundled.rows import make_row
from hogwild_agents.bundled.task import held_out_problems, is_correct
from hogwild_agents.bundled.tokenizer import build_tokenizer
from hogwild_agents.bundled.traces import (
    Layout,
    Scenario,
    Trace,
    TracedTeam,
    draw_names,
    run_oracle,
)

_TOGETHER = 8


def load_net(path: Path) -> Net:
    """The net of a checkpoint, or of a model folder, rounded to bf16 in either case."""
    if path.is_dir():
        weights = load_file(path / "model.safetensors")
    else:
        weights = torch.load(path, weights_only=True)["net"]
    net = Net(Shape(vocabulary=build_tokenizer().get_vocab_size()))
    net.load_state_dict({name: value.bfloat16().float() for name, value in weights.items()})
    return net.eval()


@torch.no_grad()
def agreement(net: Net, traces: list[Trace]) -> list[bool]:
    """For each trace of one team size, whether the model would have written just this."""
    agree: list[bool] = []
    for at in range(0, len(traces), _TOGETHER):
        batch = pad_rows([make_row(trace) for trace in traces[at : at + _TOGETHER]])
        predicted = net.logits(net(batch)).argmax(-1)
        wrong = (predicted != batch.targets) & (batch.targets >= 0)
        agree += (~wrong.any(1)).tolist()
    return agree


@torch.no_grad()
def simulate(net: Net, scenarios: list[Scenario], max_ticks: int = 300) -> list[Trace]:
    """Run teams of one size tick by tick, everything computed anew in each tick."""
    teams = [TracedTeam(scenario) for scenario in scenarios]
    for _ in range(max_ticks):
        running = [team for team in teams if not team.finished]
        if not running:
            break
        for team in running:
            team.feed()
        batch = pad_rows([make_row(team.trace()) for team in running])
        length = batch.shape[3]
        hidden = net(batch)
        for row, team in enumerate(running):
            team.sample(_next_tokens(net, hidden[row], team, length))
    return [team.trace() for team in teams]


def evaluate(net: Net, scenarios: list[Scenario]) -> list[Trace]:
    """The model's own runs in scenarios of one team size."""
    traces = [run_oracle(scenario) for scenario in scenarios]
    agree = agreement(net, traces)
    differing = [index for index, same in enumerate(agree) if not same]
    for at in range(0, len(differing), _TOGETHER):
        some = differing[at : at + _TOGETHER]
        for index, trace in zip(some, simulate(net, [scenarios[i] for i in some]), strict=True):
            traces[index] = trace
    return traces


def _next_tokens(net: Net, hidden: Tensor, team: TracedTeam, length: int) -> list[int]:
    """Argmax after the last token of each active worker; ``hidden`` [T, hidden]."""
    sizes = Counter({worker.index: 0 for worker in team.workers})
    for step in team.steps:
        sizes[step.worker] += len(step.tokens)
    last = [worker.index * length + sizes[worker.index] - 1 for worker in team.active]
    tokens: list[int] = net.logits(hidden[last]).argmax(-1).tolist()
    return tokens


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Evaluate the bundled model on held-out problems.")
    parser.add_argument("path", type=Path, help="a checkpoint or a model folder")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--layout", type=Layout, default=Layout.COMBINED)
    parser.add_argument("--check-every", type=int, nargs=2, default=(0, 0))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = load_net(args.path)
    problems = held_out_problems(args.problems, args.seed)
    for workers in args.workers:
        rng = random.Random(f"teams {args.seed} {workers}")
        scenarios = [
            Scenario(
                problem=problem,
                names=draw_names(rng, workers),
                layout=args.layout,
                check_every=rng.randint(*args.check_every),
            )
            for problem in problems
        ]
        traces = evaluate(net, scenarios)
        right = mean(is_correct(t.answer, t.scenario.problem) for t in traces)
        ticks = mean(trace.ticks for trace in traces)
        print(f"{workers} workers: accuracy {right:.3f}, {ticks:.1f} ticks", flush=True)


if __name__ == "__main__":
    main()
