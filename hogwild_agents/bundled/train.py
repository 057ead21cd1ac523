"""Train the bundled model: ``python -m hogwild_agents.bundled.train --out FOLDER``.

Writes ``FOLDER/checkpoint.pt`` every few minutes (a later call goes on from it) and, at the end
or with ``--export`` at any time, the model folder ``FOLDER/model``. The amount of training is
given in tokens, so a run with a seed can be repeated exactly.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hogwild_agents.bundled.data import batches, evaluation_rows, pad_rows
from hogwild_agents.bundled.muon import Muon
from hogwild_agents.bundled.net import Net, Shape
from hogwild_agents.bundled.rows import Batch
from hogwild_agents.bundled.tokenizer import build_tokenizer, save_tokenizer

_WARMUP = 0.01
_DECAY = 0.5  # the rates fall linearly over this last share


def loss_of(net: Net, batch: Batch) -> tuple[Tensor, int, Tensor]:
    """Weighted cross-entropy, number of sampled tokens, where the argmax is right [B, T]."""
    hidden = net(batch)
    sampled = batch.targets >= 0
    logits = net.logits(hidden[sampled])
    targets, weights = batch.targets[sampled], batch.weights[sampled]
    right = torch.ones_like(sampled)
    right[sampled] = logits.argmax(-1) == targets
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum(), len(targets), right


class Trainer:
    """The state of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.folder: Path = args.out
        torch.manual_seed(args.seed)
        vocabulary = build_tokenizer().get_vocab_size()
        self.net = Net(Shape(vocabulary=vocabulary))
        inner = {n: p for n, p in self.net.named_parameters() if p.ndim == 2 and "layers" in n}
        rest = [p for n, p in self.net.named_parameters() if n not in inner]
        self.muon = Muon(list(inner.values()))
        self.adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0)
        self.step = self.tokens = self.pool = 0
        self.seconds = 0.0
        if args.compile:
            for layer in self.net.model.layers:
                layer.forward = torch.compile(layer.forward, dynamic=True)

    @property
    def progress(self) -> float:
        """The share of the training that is done."""
        return min(1.0, self.tokens / float(self.args.tokens))

    def rate(self) -> float:
        """The factor on the learning rates."""
        return min(1.0, (self.progress + 1e-4) / _WARMUP, (1.0 - self.progress) / _DECAY)

    def run(self) -> None:
        """Train to the end, saving now and then."""
        checks = {f"{n}": evaluation_rows(self.args.check, n) for n in (1, 2, 3, 4)}
        saved = time.monotonic()
        stream = batches(self.args.seed, self.pool, self.args.batch, lambda: self.progress)
        losses: list[float] = []
        while self.progress < 1.0:
            began = time.monotonic()
            batch, self.pool = next(stream)
            losses.append(self.update(batch))
            self.seconds += time.monotonic() - began
            if self.step % 50 == 0:
                self.log(loss=sum(losses) / len(losses))
                losses = []
            if time.monotonic() - saved > self.args.save_every:
                self.save()
                self.log(exact={k: self.exact(rows) for k, rows in checks.items()})
                saved = time.monotonic()
        self.save()
        self.log(exact={k: self.exact(rows) for k, rows in checks.items()})
        export(self.net, self.folder / "model")

    def update(self, batch: Batch) -> float:
        """One step of the optimizers. Returns the loss."""
        loss, _, _ = loss_of(self.net, batch)
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.step}")
        self.net.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        rate = self.rate()
        self.adam.param_groups[0]["lr"] = self.args.adam_rate * rate
        self.adam.step()
        self.muon.step(self.args.muon_rate * rate, self.args.decay)
        self.step += 1
        self.tokens += batch.tokens.numel()
        return loss.item()

    @torch.no_grad()
    def exact(self, rows: list[Any]) -> tuple[float, float]:
        """Shares of traces without any wrong token, and of right tokens."""
        whole, count, wrong = 0, 0, 0
        for at in range(0, len(rows), 8):
            _, number, right = loss_of(self.net, pad_rows(rows[at : at + 8]))
            whole += int(right.all(1).sum())
            wrong += int((~right).sum())
            count += number
        return round(whole / len(rows), 4), round(1 - wrong / count, 5)

    def log(self, **values: Any) -> None:
        """One line of JSON."""
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        head = {"step": self.step, "tokens": self.tokens, "minutes": round(self.seconds / 60, 2)}
        print(json.dumps(head | values), flush=True)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "counters": (self.step, self.tokens, self.pool, self.seconds),
        }
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        part.rename(self.folder / "checkpoint.pt")

    def load(self, path: Path, *, continued: bool) -> None:
        """Take up a checkpoint; unless it is ``continued``, only its weights."""
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        if continued:
            self.muon.load_state_dict(state["muon"])
            self.adam.load_state_dict(state["adam"])
            self.step, self.tokens, self.pool, self.seconds = state["counters"]


def export(net: Net, folder: Path) -> None:
    """Write the model folder: plain ``from_pretrained`` loads it, in bf16."""
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    shape = net.shape
    tokenizer = build_tokenizer()
    eos, pad = tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<|pad|>")
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head_dim,
        max_position_embeddings=4096,
        rms_norm_eps=shape.eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    model = Qwen3ForCausalLM(config)
    model.load_state_dict(net.state_dict(), strict=False)
    model.tie_weights()
    model.to(dtype=torch.bfloat16)  # type: ignore[call-arg]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=eos, pad_token_id=pad
    )
    model.save_pretrained(folder)
    save_tokenizer(folder)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--tokens", type=float, default=20e6, help="tokens to train on")
    parser.add_argument("--batch", type=int, default=4096, help="tokens in a batch")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=4e-3)
    parser.add_argument("--decay", type=float, default=0.02, help="weight decay of the matrices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=float, default=240, help="seconds")
    parser.add_argument("--check", type=int, default=32, help="held-out traces per team size")
    parser.add_argument("--start", type=Path, help="checkpoint to take the first weights from")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--export", action="store_true", help="only export the checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(args)
    checkpoint = args.out / "checkpoint.pt"
    if args.start and not checkpoint.exists():
        trainer.load(args.start, continued=False)
    if checkpoint.exists():
        trainer.load(checkpoint, continued=True)
    if args.export:
        export(trainer.net, args.out / "model")
    else:
        trainer.run()


if __name__ == "__main__":
    main()
