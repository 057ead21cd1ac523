"""``hogwild model check``: what a model is, as a team will use it, and whether it runs."""

from __future__ import annotations

import json
from dataclasses import asdict

from hogwild_agents.cli.build import check_model, loaded
from hogwild_agents.cli.columns import print_columns
from hogwild_agents.cli.facts import ModelFacts, of_config, of_model
from hogwild_agents.cli.interrupts import ends_at_once
from hogwild_agents.cli.progress import Progress
from hogwild_agents.config import RunConfig
from hogwild_agents.counts import counted
from hogwild_agents.errors import ConfigError, ModelError

FAILED = 2


def check(config: RunConfig, *, from_config: bool, as_json: bool) -> int:
    """Print the facts of the config's model; return the exit code.

    Args:
        config: what names it.
        from_config: read no weights.
        as_json: print one JSON object, also of a model that is refused.

    Raises:
        ModelError: it cannot be loaded, or not be run exactly; not with ``as_json``.
        ConfigError: an option does not fit it; not with ``as_json``.
    """
    try:
        facts = _facts(config, from_config=from_config)
    except (ModelError, ConfigError) as error:
        if not as_json:
            raise
        print(json.dumps({"name": config.model, "runs": False, "reason": str(error)}))
        return FAILED
    if as_json:
        print(json.dumps({"runs": True, "fits": facts.fits, **asdict(facts)}))
    else:
        print_columns(_rows(facts).items(), style="bright_black")
    return 0


def _facts(config: RunConfig, *, from_config: bool) -> ModelFacts:
    check_model(config.model)
    if not from_config:
        with loaded(config, quiet=False) as model:
            return of_model(model)
    with Progress() as progress, ends_at_once(progress.close):
        progress.show(f"Looking at the config of {config.model}")
        from hogwild_agents.engine.threads import limited

        with limited(config.threads):
            return of_config(config)


# -- in words


def _rows(facts: ModelFacts) -> dict[str, str]:
    rows = {
        "Model": facts.name,
        "Architecture": _architecture(facts),
        "Parameters": _parameters(facts),
        "Loaded as" if facts.device else "Dtype": _place(facts),
        "Weights": _weights(facts),
        "Vocabulary": f"{facts.vocabulary:,} tokens",
        "Attention": "\n".join(facts.attention) or "not known",
        "Layouts": ", ".join(facts.layouts) + ", and your own",
        "Exactness": _exactness(facts),
        "Context": _context(facts),
        "Cache": _cache(facts),
        "Chat template": _template(facts),
        "Banned in thought": _banned(facts),
    }
    if not facts.from_config:
        rows["Sampling"] = _sampling(facts)
    return rows | {"Runs": _verdict(facts)}


def _architecture(facts: ModelFacts) -> str:
    if facts.layers is None:
        return facts.architecture
    return f"{facts.architecture}, {counted(facts.layers, 'layer')}"


def _parameters(facts: ModelFacts) -> str:
    count = "not known" if facts.parameters is None else f"{facts.parameters:,}"
    return count + ("" if facts.quantization is None else f", quantized ({facts.quantization})")


def _place(facts: ModelFacts) -> str:
    rounded = f", rounded to int8 ({size(facts.int8_bytes)} more)" if facts.int8_bytes else ""
    own = f"; by kernels of its own: {', '.join(facts.kernels)}" if facts.kernels else ""
    built = f"; {counted(facts.compiled_layers, 'layer')} compiled" if facts.compiled_layers else ""
    return facts.dtype + (f" on {facts.device}" if facts.device else "") + rounded + own + built


def _weights(facts: ModelFacts) -> str:
    free = "" if facts.free_bytes is None else f"; {size(facts.free_bytes)} of memory are free"
    if facts.weight_bytes is None:
        return f"not known{free}"
    words = f"{size(facts.weight_bytes)}{free}"
    return words if facts.fits else f"{words}: they do not fit"


def _exactness(facts: ModelFacts) -> str:
    if facts.not_tried is not None:
        return f"not tried on a small copy with random weights ({facts.not_tried})"
    if facts.error is None:
        return "not measured"
    bound = f"{facts.error:.1e} of their spread (refused above {facts.error_bound:.0e})"
    if not facts.from_config:
        return f"one worker's logits differ from the plain forward's by {bound}"
    tried = counted(facts.tried_layers or 0, "layer")
    return (
        f"of a small copy with random weights ({tried}), one worker's logits "
        f"differ from the plain forward's by {bound}"
    )


def _context(facts: ModelFacts) -> str:
    if facts.from_config and facts.tried_layers is None:
        return "not known"
    if facts.context is None:
        return "no bound"
    if facts.trained_context in (None, facts.context):
        return f"{facts.context:,} tokens"
    return f"{facts.context:,} tokens; the model was made for {facts.trained_context:,}"


def _cache(facts: ModelFacts) -> str:
    count = facts.cache_bytes_per_1000_tokens
    if count is None:
        return "not known"
    words = f"{size(count)} for 1,000 tokens, whoever sees them"
    if facts.latent_numbers is None:
        return words
    return (
        f"{words}; MLA is cached expanded, not as the {facts.latent_numbers} numbers a layer of "
        "its latent state"
    )


def _template(facts: ModelFacts) -> str:
    if facts.chat_template is None:
        return "not known: there is no tokenizer"
    if not facts.chat_template:
        return "none: no team can be run on it"
    return "opens <think>" if facts.opens_think else "<think> is opened by the runtime"


def _banned(facts: ModelFacts) -> str:
    if facts.banned_while_reasoning is None:
        return "not known: there is no tokenizer"
    examples = ", ".join(map(repr, facts.banned_examples))
    words = counted(facts.banned_while_reasoning, "token")
    return f"{words}, such as {examples}" if examples else words


def _sampling(facts: ModelFacts) -> str:
    words = ", ".join(f"{name} {value:g}" for name, value in facts.sampling.items())
    if facts.sampling.get("temperature") == 0:
        words = words.replace("temperature 0", "greedy")
    return words or "plain"


def _verdict(facts: ModelFacts) -> str:
    """Return what it all comes to. What is refused never gets here."""
    if facts.chat_template is False:
        return "no team, because there is no chat template"
    if not facts.fits:
        return "exactly, but not here: quantize it, spread it over devices, or take another machine"
    if facts.error is None:
        return "not known, because nothing was measured"
    if facts.int8_bytes:
        return "yes, exactly as its rounded weights say"
    return "yes, exactly" + (", as far as a small copy tells" if facts.from_config else "")


def size(count: int) -> str:
    """Return a number of bytes with three digits, in the unit that suits it."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.3g} {units[0]}" if value < 999.5 else f"{value:,.0f} {units[0]}"
