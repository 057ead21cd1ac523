"""Family: a model class, its tiny random configuration, and what its source says of every layer.

A ``Layer`` is written by hand from the modeling file in transformers; nothing in it is measured,
since the engine finds by measuring what it knows of a model. Weights are drawn so that mistakes
show: attention is far from uniform, logits are spread over several units, and moving a key by one
position changes them by far more than the tests' tolerance (``test_oracle.py`` proves that for
each family).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

VOCAB = 97
CONTEXT = 1024

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}

Pairing = Literal["halves", "neighbours"]
"""Which two of the rotated dimensions turn together: (i, i + n/2), or (2i, 2i + 1)."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one attention layer does beside matrix products.

    Attributes:
        table: prefix of its buffers in the rotary module (``inv_freq``, ``attention_scaling``);
            "" where all layers share one table, None where the layer does not rotate at all.
        long: takes longrope's table for texts beyond the original length.
        pairing: which dimensions turn together, as the attention function gets them.
        place: the rotated dimensions are the first or the last ones of a head.
        direction: -1 where the model turns the other way round.
        scale: factor of the rotated dimensions, where the table's own attribute does not tell.
        window: a query sees this many positions, its own included.
        chunk: a query sees the positions of its own chunk of this size.
        sinks: parameter of the attention module with one more logit for each head.
        cap: scores are squeezed to ``cap * tanh(score / cap)``.
        temperature: factor of a query by its position.
        gains: modules that scale the dimensions of queries and keys after they are rotated.
    """

    table: str | None = ""
    long: bool = False
    pairing: Pairing = "halves"
    place: Literal["first", "last"] = "first"
    direction: Literal[1, -1] = 1
    scale: float | None = None
    window: int | None = None
    chunk: int | None = None
    sinks: str | None = None
    cap: float | None = None
    temperature: Callable[[Tensor], Tensor] | None = None
    gains: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model class with its tiny configuration.

    Attributes:
        name: a name for the tests.
        model: the class, by its name in transformers.
        config: the configuration's class, likewise.
        options: what updates ``COMMON`` in the configuration (``...`` drops an option).
        common: whether ``COMMON`` is used at all.
        text: the class of the text part's configuration, where ``config`` is a multimodal one;
            ``options`` are for this part then.
        whole: options of the multimodal configuration itself.
        layers: one for each call of the attention function in a forward, or one for all.
        rotary: where the rotary module is.
        counts_rows: the model takes the rows of its input for positions when it sets the
            temperature of queries, not the position ids.
        engine: options that its engine is made with.
    """

    name: str
    model: str
    config: str
    options: Mapping[str, Any] = field(default_factory=dict)
    common: bool = True
    text: str | None = None
    whole: Mapping[str, Any] = field(default_factory=dict)
    layers: Layer | tuple[Layer, ...] = Layer()
    rotary: str = "model.rotary_emb"
    counts_rows: bool = False
    engine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def available(self) -> bool:
        """Whether the installed transformers has it."""
        names = (self.model, self.config, self.text or self.config)
        return all(hasattr(transformers, name) for name in names)

    def configuration(self, **changes: Any) -> Any:
        """A fresh configuration."""
        options = {**(COMMON if self.common else {}), **self.options, **changes}
        kept = {name: value for name, value in options.items() if value is not ...}
        if self.text is None:
            return getattr(transformers, self.config)(**kept)
        text = getattr(transformers, self.text)(**kept)
        return getattr(transformers, self.config)(text_config=text.to_dict(), **self.whole)

    def build(self, *, seed: int = 0, **changes: Any) -> Any:
        """A fresh fp32 model on the CPU in eval mode; equal seeds give equal weights."""
        config = self.configuration(**changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = getattr(transformers, self.model)(config)
            spread_weights(model)
        assert model.dtype == torch.float32
        return model.eval()

    def layer(self, call: int) -> Layer:
        """What the layer of this call of the attention function does."""
        return self.layers if isinstance(self.layers, Layer) else self.layers[call]

    def each_layer(self) -> tuple[Layer, ...]:
        """The layers that are described."""
        return (self.layers,) if isinstance(self.layers, Layer) else self.layers


def plain_logits(model: Any, ids: list[int]) -> Tensor:
    """The model's own forward of one text, [len(ids), vocab], in the model's dtype."""
    if getattr(model.config.get_text_config(decoder=True), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the sdpa of transformers 5.17 drops the cap
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits


def spread_weights(model: torch.nn.Module) -> None:
    """Draw weights anew: unit-scale activations, sharp attention, and biases and norms at work."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        parameter.copy_(_draw(name, parameter))


SHARP = ("q_proj", "k_proj", "qkv_proj", "q_b_proj", "query_key_value", "Wqkv", "kv_proj")
"""Parts of the names of what makes queries and keys."""


def _draw(name: str, parameter: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(parameter.shape)
    owner = f".{name}".split(".")[-2]
    if parameter.dim() < 2 or owner.endswith("norm"):
        return noise * 0.2 + (0.0 if name.endswith("bias") else 1.2)
    if "embed" in name:
        return 0.4 * noise
    sharp = 1.6 if any(part in name for part in SHARP) else 1.0
    scale: float = sharp / parameter.shape[-1] ** 0.5
    return noise * scale
