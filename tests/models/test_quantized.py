"""Quantized weights are loaded as transformers loads them, and run exactly as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from hogwild_agents.engine import Engine, Feed
from hogwild_agents.errors import ModelError
from hogwild_agents.models import load_model
from hogwild_agents.quantization import quantization_config, quantization_of
from tests.models.folders import IDS, change_config, logits_of, save, tiny_llama
from tests.models.gguf_file import tiny_qwen3, write_gguf

INT8 = {"quant_method": "quanto", "weights": "int8"}
BLOCK = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama in float32."""
    return save(tiny_llama(), tmp_path_factory.mktemp("llama"))


def spread_logits(engine: Engine) -> Tensor:
    """The logits of one text over two blocks, [len(IDS), vocabulary]."""
    first, second = engine.block("first"), engine.block("second")
    return torch.cat(
        [
            engine.forward([Feed(first, [first], IDS[:17])], logits="all"),
            engine.forward([Feed(second, [first, second], IDS[17:])], logits="all"),
        ]
    )


# -- quantized on loading


def test_weights_quantized_on_loading_stay_packed_and_are_run_exactly(folder: Path) -> None:
    with load_model(folder, device="cpu", quantization=INT8) as model:
        engine = model.engine
        layer = engine.model.model.layers[0]
        assert type(layer.mlp.up_proj.weight).__name__ == "WeightQBytesTensor"
        assert layer.mlp.up_proj.weight._data.dtype == torch.int8
        assert layer.input_layernorm.weight.dtype == torch.float32
        assert engine.dtype == torch.float32
        assert engine.adapter.shapes[0].dtype == torch.float32
        assert quantization_of(engine.model.config) == "quanto"
        found = spread_logits(engine)
        packed = engine.model
    expected = logits_of(packed)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (expected - logits_of(tiny_llama())).abs().max() > 1e-2  # they are other weights


def test_in_half_precision_everything_but_the_logits_is_half(folder: Path) -> None:
    with load_model(folder, device="cpu", dtype="bf16", quantization=INT8) as model:
        engine = model.engine
        assert engine.dtype == torch.bfloat16
        assert engine.adapter.shapes[0].dtype == torch.bfloat16
        assert engine.probe_error is not None
        assert engine.probe_error < 0.05
        assert spread_logits(engine).dtype == torch.float32


def test_quantized_weights_are_neither_moved_nor_cast(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*_: object, **__: object) -> None:
        raise AssertionError("the model was moved")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "to", moved)
    load_model(folder, device="cpu", quantization=INT8, verify=False).close()
    with pytest.raises(AssertionError, match="moved"):
        load_model(folder, device="cpu", verify=False)


# -- quantized in the checkpoint


def write_fp8(folder: Path) -> dict[str, Tensor]:
    """Turn a checkpoint into one as DeepSeek-V3 and Qwen3-FP8 have it; return the true weights."""
    packed: dict[str, Tensor] = {}
    true: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "_proj" not in name:
            packed[name], true[name] = weight, weight.float()
            continue
        rows, columns = weight.shape
        blocks = weight.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = blocks.abs().amax((1, 3), keepdim=True) / 448
        small = (blocks / scale).to(torch.float8_e4m3fn)
        packed[name] = small.reshape(rows, columns)
        packed[f"{name}_scale_inv"] = scale[:, 0, :, 0].contiguous()
        true[name] = (small.float() * scale).reshape(rows, columns)
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    how = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    change_config(folder, quantization_config={**how, "weight_block_size": [BLOCK, BLOCK]})
    return true


@pytest.mark.parametrize("saved", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fp8_is_unpacked_to_the_dtype_asked_for_where_nothing_computes_in_it(
    tmp_path: Path, saved: str, dtype: str
) -> None:
    copy = save(tiny_llama().to(getattr(torch, saved)), tmp_path)
    true = write_fp8(copy)
    with load_model(copy, device="cpu", dtype=dtype) as model:
        wanted = getattr(torch, dtype)
        assert model.engine.dtype == wanted
        found = model.engine.model.state_dict()
        assert {tensor.dtype for tensor in found.values()} == {wanted}
        rounding = 2**-8
        for name, weight in true.items():
            torch.testing.assert_close(found[name].float(), weight, atol=1e-6, rtol=rounding)


def test_a_gguf_file_is_a_whole_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    original = tiny_qwen3()
    file = write_gguf(original, tmp_path / "tiny.Q8_0.gguf")
    capfd.readouterr()
    with load_model(file, device="cpu") as model:
        assert model.name == str(file)
        assert model.engine.dtype == torch.float32
        assert model.engine.context_length == 256
        assert model.stop_ids == {2}
        assert model.decode(model.encode("hello to Bob.\n\n")) == "hello to Bob.\n\n"
        assert model.tokenizer.chat_template
        found = spread_logits(model.engine)
    torch.testing.assert_close(found, logits_of(original), atol=1e-3, rtol=0)
    assert capfd.readouterr() == ("", "")


def test_a_broken_gguf_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF and nothing else")
    with pytest.raises(ModelError, match=r"The config of '.*broken\.gguf' cannot be loaded"):
        load_model(file)
    with pytest.raises(ModelError, match=r"There is no model folder"):
        load_model(tmp_path / "missing.gguf")


def test_a_folder_with_nothing_but_a_gguf_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "tiny.Q4_1.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelError) as told:
        load_model(tmp_path)
    assert str(told.value).endswith(f"so it is no transformers model: give the file, '{file}'.")


# -- what can be asked for


def test_the_names_mean_what_they_say() -> None:
    four = quantization_config("bnb-4bit", torch.float32)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type) == (True, "nf4")
    assert four.bnb_4bit_compute_dtype == torch.float32
    assert quantization_config("bnb-4bit", "auto").bnb_4bit_compute_dtype == torch.bfloat16
    assert quantization_config("bnb-8bit", "auto").load_in_8bit
    text = '{"quant_method": "quanto", "weights": "int4"}'
    assert quantization_config(text, "auto").weights == "int4"
    own = transformers.QuantoConfig(weights="int8")
    assert quantization_config(own, "auto") is own
    assert quantization_config(None, "auto") is None


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("4bit", r"no quantization '4bit': give bnb-4bit, bnb-8bit, torchao-int8, or a JSON"),
        ("{quanto", r"is no JSON"),
        ({"bits": 4}, r"cannot be had \(.*quant_method"),
        ({"quant_method": "zzz"}, r"cannot be had \(Unknown quantization type, got zzz"),
        (4, r"no quantization 4"),
    ],
)
def test_a_quantization_that_there_is_not_is_told(folder: Path, given: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_model(folder, quantization=given)


def test_a_missing_library_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hogwild_agents.quantization.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="torchao is not installed: pip install torchao"):
        load_model(folder, quantization="torchao-int8")
    place = "transformers.quantizers.quantizer_quanto.is_optimum_quanto_available"
    monkeypatch.setattr(place, lambda: False)
    with pytest.raises(ModelError, match=r"pip install optimum-quanto.*\): install that\."):
        load_model(folder, quantization=INT8)


# -- options for transformers


def test_options_reach_transformers_as_they_are(folder: Path) -> None:
    options = {"attn_implementation": "eager", "device_map": {"model": "cpu", "lm_head": "cpu"}}
    with load_model(folder, model_options=options) as model:
        network = model.engine.model
    assert network.config._attn_implementation == "eager"
    torch.testing.assert_close(logits_of(network), logits_of(tiny_llama()), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtype": "float32"}, "'dtype' cannot stand in model_options: give dtype"),
        ({"trust_remote_code": True}, "code that comes with a checkpoint is never run"),
        ({"quantization_config": INT8}, "give quantization"),
        ({"device_map": "auto", "max_memory": {}}, "The device is 'cpu', but 'device_map'"),
        (
            {"zzz": 1},
            r"The weights of .*\(.*'zzz'\): leave 'zzz' out of model_options, or spell it as "
            r"from_pretrained of transformers does\.$",
        ),
    ],
)
def test_options_that_cannot_be_are_told(folder: Path, options: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_model(folder, device="cpu", model_options=options)


def test_an_option_that_needs_accelerate_is_told_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "transformers.integrations.accelerate.is_accelerate_available"
    monkeypatch.setattr(place, lambda: False)
    monkeypatch.setattr("hogwild_agents.checkpoint.find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        load_model(folder, model_options={"device_map": "auto"})
    advice = 'install accelerate with `pip install -e ".[large]"` or `pip install accelerate`.'
    assert str(caught.value).endswith(f"): {advice}")
