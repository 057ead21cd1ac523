"""``hogwild model info``: what a model is, as a team will use it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hogwild_agents.cli.build import loaded
from hogwild_agents.config import RunConfig

if TYPE_CHECKING:
    from hogwild_agents import LanguageModel

STAND_IN = "Hogwild"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model is.

    Attributes:
        name: as it was asked for.
        architecture: the transformers class.
        parameters: how many.
        dtype, device: as loaded.
        layers: of the decoder.
        vocabulary: how many token ids.
        context: the longest view in tokens; None without a bound.
        cache_bytes_per_1000_tokens: what keys and values take, whoever sees them.
        chat_template: whether there is one; without it no team can be run.
        opens_think: whether the template opens ``<think>``; if not, the runtime does.
        banned_while_reasoning: how many tokens no worker may write.
        sampling: the model's own way, as far as it differs from plain sampling.
    """

    name: str
    architecture: str
    parameters: int
    dtype: str
    device: str
    layers: int | None
    vocabulary: int
    context: int | None
    cache_bytes_per_1000_tokens: int
    chat_template: bool
    opens_think: bool
    banned_while_reasoning: int
    sampling: dict[str, float]


def info(config: RunConfig, *, as_json: bool) -> int:
    """Load the config's model and print its facts; return the exit code.

    Raises:
        ModelError: it cannot be loaded, or not be run exactly.
    """
    with loaded(config, quiet=False) as model:
        facts = gather(model)
    if as_json:
        print(json.dumps(asdict(facts)))
    else:
        Console(highlight=False).print(_table(facts))
    return 0


def gather(model: LanguageModel) -> ModelFacts:
    """Return the facts of a loaded model."""
    engine, config = model.engine, model.engine.model.config
    template = bool(getattr(model.tokenizer, "chat_template", None))
    return ModelFacts(
        name=model.name,
        architecture=type(engine.model).__name__,
        parameters=sum(tensor.numel() for tensor in engine.model.parameters()),
        dtype=str(engine.dtype).removeprefix("torch."),
        device=str(engine.device),
        layers=getattr(config, "num_hidden_layers", None),
        vocabulary=engine.vocab_size,
        context=engine.context_length,
        cache_bytes_per_1000_tokens=1000 * engine.bytes_per_token,
        chat_template=template,
        opens_think=template and _opens_think(model.tokenizer),
        banned_while_reasoning=len(model.reasoning_bans),
        sampling=_sampling(model),
    )


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


def _sampling(model: LanguageModel) -> dict[str, float]:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    plain = type(model.sampling)()
    return {
        name: value
        for name in names
        if (value := getattr(model.sampling, name)) != getattr(plain, name)
    }


def _table(facts: ModelFacts) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="bright_black")
    table.add_column()
    sampling = ", ".join(f"{name} {value:g}" for name, value in facts.sampling.items())
    if facts.sampling.get("temperature") == 0:
        sampling = sampling.replace("temperature 0", "greedy")
    think = "opens <think>" if facts.opens_think else "<think> is opened by the runtime"
    rows = {
        "Model": facts.name,
        "Architecture": facts.architecture + (f", {facts.layers} layers" if facts.layers else ""),
        "Parameters": f"{facts.parameters:,}",
        "Loaded as": f"{facts.dtype} on {facts.device}",
        "Vocabulary": f"{facts.vocabulary:,} tokens",
        "Context": "no bound" if facts.context is None else f"{facts.context:,} tokens",
        "Cache": f"{size(facts.cache_bytes_per_1000_tokens)} for 1,000 tokens, whoever sees them",
        "Chat template": think if facts.chat_template else "none: no team can be run on it",
        "Banned in thought": f"{facts.banned_while_reasoning:,} tokens",
        "Sampling": sampling or "plain",
        "Exactness": "one worker’s logits equal the plain forward’s (probed on loading)",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def size(count: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"
