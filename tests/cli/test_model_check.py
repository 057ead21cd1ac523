"""`hogwild model check` says what a model is, whether it runs, and why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hogwild_agents.cli.app import call
from hogwild_agents.cli.facts import of_config
from hogwild_agents.cli.model import size
from hogwild_agents.cli.stand_in import build_stand_in, is_steady
from hogwild_agents.config import RunConfig
from hogwild_agents.engine import compiled
from tests.cli.first_run import unprompted
from tests.models.folders import TEXT, change_config, drawn, save, save_tokenizer, tiny_llama

OLD_KEYS = {
    "name", "architecture", "parameters", "dtype", "device", "layers", "vocabulary", "context",
    "cache_bytes_per_1000_tokens", "chat_template", "opens_think", "banned_while_reasoning",
    "sampling",
}  # fmt: skip
LAYERS = ["sliding_attention", "sliding_attention", "full_attention"] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_llama(), tmp_path_factory.mktemp("llama"))


def gemma3(**changes: Any) -> Any:
    options = {**TEXT, "num_hidden_layers": 12, "sliding_window": 9, "layer_types": LAYERS}
    config: Any = transformers.Gemma3TextConfig(**{**options, **changes})
    return config


def as_json(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    capsys.readouterr()
    assert call(["model", "check", "--json", *arguments]) == code
    out, err = capsys.readouterr()
    assert unprompted(err) == ""
    return json.loads(out)


def as_text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The table, its lines joined."""
    capsys.readouterr()
    assert call(["model", "check", *arguments]) == 0
    out, err = capsys.readouterr()
    assert unprompted(err) == ""
    return " ".join(out.split())


def test_a_model_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = as_json([str(folder)], capsys)
    assert facts.keys() >= OLD_KEYS
    assert facts["runs"]
    assert not facts["from_config"]
    assert facts["model_type"] == "llama"
    assert facts["parameters"] == tiny_llama().num_parameters()
    assert facts["attention"] == [
        "full attention in all layers",
        "rotary embedding in halves in all layers",
    ]
    assert facts["layouts"] == ["combined", "contiguous", "interleaved", "isolated"]
    assert 0 < facts["error"] < 1e-4 < facts["error_bound"]
    assert facts["context"] == facts["trained_context"] == 256
    # keys and values of 2 layers, 2 heads of 8 float32 numbers
    assert facts["cache_bytes_per_1000_tokens"] == 1000 * 2 * 2 * 2 * 8 * 4
    assert facts["banned_while_reasoning"] >= 3
    assert "</s>" in facts["banned_examples"]
    assert "#" in facts["banned_examples"]


def test_the_table_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = as_text([str(folder), "--max-context", "300"], capsys)
    assert "LlamaForCausalLM, 2 layers" in table
    assert "one worker's logits differ from the plain forward's by" in table
    assert "300 tokens; the model was made for 256" in table
    assert "250 KiB for 1,000 tokens, whoever sees them" in table
    assert "combined, contiguous, interleaved, isolated, and your own" in table
    assert "'</s>'" in table
    assert as_text(["--rope-scaling", "yarn:4", str(folder)], capsys).count("1,024 tokens") == 1


def test_info_is_another_name_for_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["model", "info", "--json", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out).keys() >= OLD_KEYS


# -- from the config alone


def test_the_config_alone_tells_what_the_model_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(drawn(transformers.Gemma3ForCausalLM(gemma3())), tmp_path)
    measured = as_json([str(tmp_path)], capsys)
    (tmp_path / "model.safetensors").unlink()
    told = as_json([str(tmp_path), "--from-config"], capsys)
    assert told["from_config"]
    assert told["tried_layers"] == 3
    assert 0 < told["error"] < 1e-4
    assert told["device"] is None
    assert told["free_bytes"] > told["weight_bytes"] > 0
    assert measured["free_bytes"] is None
    differ = {
        "from_config",
        "free_bytes",
        "int8_bytes",
        "kernels",
        "tried_layers",
        "error",
        "device",
    }
    differ |= {"sampling"}
    same = measured.keys() - differ
    assert {name: told[name] for name in same} == {name: measured[name] for name in same}
    assert told["attention"] == [
        "a sliding window of 9 tokens in 8 of 12 layers",
        "full attention in 4 of 12 layers",
        "rotary embedding in halves in all layers",
    ]


@pytest.mark.sweep
def test_a_large_model_needs_little_to_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Any = transformers.DeepseekV3Config(dtype="bfloat16")
    config.save_pretrained(tmp_path)
    facts = as_json([str(tmp_path), "--from-config"], capsys)
    assert facts["parameters"] > 600e9
    assert (facts["layers"], facts["tried_layers"]) == (61, 2)
    assert facts["cache_bytes_per_1000_tokens"] == 1000 * 61 * 128 * (192 + 128) * 2
    assert facts["latent_numbers"] == 512 + 64
    assert facts["chat_template"] is None
    assert build_stand_in(config).model.num_parameters() < facts["parameters"] / 1000


def test_weights_that_do_not_fit_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hogwild_agents.engine.memory.available", lambda device: 3 * 1024**3)
    config: Any = transformers.LlamaConfig(dtype="bfloat16")  # of 7 billion parameters
    config.save_pretrained(tmp_path)
    facts = as_json([str(tmp_path), "--from-config"], capsys)
    assert facts["runs"]
    assert not facts["fits"]
    assert facts["weight_bytes"] == 2 * facts["parameters"]
    table = as_text([str(tmp_path), "--from-config"], capsys)
    assert "12.6 GiB; 3 GiB of memory are free: they do not fit" in table
    assert "Runs exactly, but not here: quantize it, spread it" in table


def test_the_last_line_is_the_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_text([str(folder)], capsys).endswith("Runs yes, exactly")
    if compiled.works():
        rounded = as_text([str(folder), "--int8-weights"], capsys)
        assert rounded.endswith("Runs yes, exactly as its rounded weights say")
    told = as_text([str(folder), "--from-config"], capsys)
    assert told.endswith("Runs yes, exactly, as far as a small copy tells")


def test_the_config_of_the_bundled_model_tells_what_it_is_loaded_as(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told, measured = (as_json(["bundled", *more], capsys) for more in (["--from-config"], []))
    for name in ("dtype", "weight_bytes", "cache_bytes_per_1000_tokens"):
        assert told[name] == measured[name]


def test_a_pipe_gets_no_blanks_at_the_end_of_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["model", "check", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]
    assert len(lines) == len({line[:17] for line in lines if line[0] != " "}) + 1  # of attention


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "0.977 KiB"),
        (256000, "250 KiB"),
        (2048000, "1.95 MiB"),
        (1000 * 1024**2, "0.977 GiB"),
        (1341 * 10**9, "1.22 TiB"),
        (5000 * 1024**4, "5,000 TiB"),
    ],
)
def test_sizes_have_the_unit_that_reads_well(count: int, words: str) -> None:
    assert size(count) == words


def test_the_table_says_that_it_was_a_copy_and_what_mla_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "q_lora_rank": 8,
        "kv_lora_rank": 12,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 8,
        "moe_intermediate_size": 8,
        "vocab_size": 99,
    }
    transformers.DeepseekV3Config(**sizes).save_pretrained(tmp_path)
    table = as_text([str(tmp_path), "--from-config"], capsys)
    assert "of a small copy with random weights (2 layers), one worker's logits differ" in table
    assert "MLA is cached expanded, not as the 16 numbers a layer of its latent state" in table
    assert "not known: there is no tokenizer" in table


def test_a_copy_is_of_the_same_attention_and_less_of_the_rest() -> None:
    config = gemma3(
        hidden_size=640, intermediate_size=2560, vocab_size=9000, head_dim=32, pad_token_id=8999
    )
    copy = build_stand_in(config)
    text = copy.model.config
    assert copy.likeness == [0, 0, 2] * 4
    assert (text.num_hidden_layers, text.layer_types) == (3, LAYERS[:3])
    assert (text.num_attention_heads, text.num_key_value_heads, text.head_dim) == (4, 2, 32)
    assert (text.hidden_size, text.intermediate_size, text.vocab_size) == (64, 64, 512)
    assert text.sliding_window == 9
    assert (config.num_hidden_layers, config.vocab_size) == (12, 9000)  # it was not changed


def test_a_copy_is_the_same_every_time_and_leaves_random_states_alone() -> None:
    before = torch.get_rng_state()
    one, other = (build_stand_in(gemma3()).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_heads_that_are_a_share_of_the_width_keep_their_size() -> None:
    config: Any = transformers.GPTNeoXConfig(
        hidden_size=256, num_attention_heads=4, num_hidden_layers=3, intermediate_size=999
    )
    copy = build_stand_in(config).model.config
    assert (copy.hidden_size, copy.num_attention_heads, copy.intermediate_size) == (256, 4, 64)


def test_the_copy_of_a_multimodal_model_has_no_towers() -> None:
    config: Any = transformers.Gemma3Config(text_config=gemma3().to_dict())
    names = [name for name, _ in build_stand_in(config).model.named_modules()]
    assert not [name for name in names if "vision_tower" in name]


def test_quantized_weights_do_not_hinder_a_look_at_the_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemma3().save_pretrained(tmp_path)
    how = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    change_config(tmp_path, quantization_config=how)
    facts = as_json([str(tmp_path), "--from-config"], capsys)
    assert facts["quantization"] == "gptq"
    assert facts["error"] < 1e-4


def test_what_no_copy_can_tell_is_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers.Gemma4TextConfig().save_pretrained(tmp_path)
    facts = as_json([str(tmp_path), "--from-config"], capsys)
    assert facts["not_tried"] == "none could be made: its layers differ in their sizes"
    assert facts["error"] is None
    assert facts["cache_bytes_per_1000_tokens"] is None
    table = as_text([str(tmp_path), "--from-config"], capsys)
    assert "not tried on a small copy with random weights (none could be made: its" in table


class Trembling(torch.nn.Module):
    """Logits that a change in the last digits turns over."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 8)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.embedding

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        states = (1e9 * self.embedding(input_ids)).sin()
        return type("Output", (), {"logits": states})


def test_rounding_that_random_layers_magnify_is_told_from_a_refusal() -> None:
    assert is_steady(build_stand_in(gemma3()).model)
    trembling = Trembling()
    before = trembling.embedding.weight.clone()
    assert not is_steady(trembling)
    assert torch.equal(trembling.embedding.weight, before)


def test_a_refusal_that_is_only_rounding_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gemma3().save_pretrained(tmp_path)
    monkeypatch.setattr("hogwild_agents.engine.probe.probe_bound", lambda dtype: 1e-12)
    monkeypatch.setattr("hogwild_agents.engine.probe._MOST", 0.0)
    monkeypatch.setattr("hogwild_agents.cli.stand_in.probe_bound", lambda dtype: 1e-12)
    facts = of_config(RunConfig(model=str(tmp_path)))
    assert facts.not_tried == "in it rounding grows too much to tell anything"
    assert facts.error is None
    assert facts.attention


# -- refused


@pytest.mark.parametrize("only_config", [True, False])
def test_a_refusal_gives_two_and_the_reason(
    tmp_path: Path, only_config: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers.MambaConfig().save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    arguments = [str(tmp_path)] + ["--from-config"] * only_config
    facts = as_json(arguments, capsys, code=2)
    assert facts.keys() == {"name", "runs", "reason"}
    assert not facts["runs"]
    assert "recurrent or linear-attention layers" in facts["reason"]
    assert call(["model", "check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"hogwild: The model '{tmp_path}' (model type 'mamba') cannot be run")
    assert err.count("\n") == 1


def test_what_only_the_engine_refuses_is_found_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Any = transformers.FalconConfig(
        hidden_size=64, num_attention_heads=4, num_hidden_layers=2, vocab_size=99
    )
    config.save_pretrained(tmp_path)
    facts = as_json([str(tmp_path), "--from-config"], capsys, code=2)
    assert "its attention is not built on AttentionInterface" in facts["reason"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--rope-scaling", "ntk:2"], "There is no rope scaling 'ntk' by name"),
        (["--quantization", "3bit"], "There is no quantization '3bit'"),
        (["--model-option", "device_map"], "--model-option 'device_map' has no value"),
        (["--model-option", "dtype=1"], "'dtype' cannot stand in model_options"),
        (["--max-context", "0"], "--max-context cannot be 0"),
    ],
)
def test_options_that_cannot_be_are_told(
    folder: Path, options: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["model", "check", str(folder), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hogwild: ")
    assert match in err
    assert err.count("\n") == 1


def test_options_reach_transformers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option = 'device_map={"": "cpu"}'
    assert as_json(["--model-option", option, str(folder)], capsys)["device"] == "cpu"
    quanto = '{"quant_method": "quanto", "weights": "int8"}'
    facts = as_json(["--quantization", quanto, str(folder)], capsys)
    assert facts["quantization"] == "quanto"


# -- longer than trained


def test_a_long_view_is_one_line_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "x " * 300, "--model", str(folder), "--budget", "3", "--plain"]
    assert call([*arguments, "--max-context", "5000"]) in (0, 1)
    lines = unprompted(capsys.readouterr().err).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("hogwild: The view of ")
    assert "but the model was trained for 256" in lines[0]
    assert "site-packages" not in lines[0]


def test_a_view_past_the_limit_is_told_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", "x " * 300, "--model", str(folder), "--budget", "3"]) == 2
    err = unprompted(capsys.readouterr().err)
    assert err.startswith("hogwild: ")
    assert "256" in err
