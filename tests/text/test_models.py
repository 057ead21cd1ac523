"""Models are loaded whole, or one sentence says why not."""

from __future__ import annotations

import gc
import json
import re
import shutil
import socket
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, T5Config
from transformers.utils import logging as talk

from hogwild_agents import weights
from hogwild_agents.engine import Engine, SamplingParams
from hogwild_agents.errors import ClosedError, ConfigError, ModelError, UnsupportedModelError
from hogwild_agents.models import LanguageModel, LoadProgress, load_model
from tests.text.families import LOSSY
from tests.text.kinds import tokenizer_of

CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"


def tiny_llama(**changes: Any) -> LlamaForCausalLM:
    given: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**given | changes))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama and a tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = tiny_llama()
    model.generation_config.eos_token_id = [2, 7]
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.6
    model.save_pretrained(folder)
    tokenizer = tokenizer_of("byte level, newlines join")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may break."""
    return shutil.copytree(pristine, tmp_path / "tiny")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a local folder was looked up in the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_a_folder_is_loaded_without_network(folder: Path, no_network: None) -> None:
    model = load_model(str(folder))
    assert isinstance(model, LanguageModel)
    assert isinstance(model.engine, Engine)
    assert model.name == str(folder)
    assert model.engine.dtype == torch.float32
    assert model.tokenizer.chat_template == CHAT
    model.close()
    model.close()


def test_a_path_object_and_a_relative_folder_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in (folder, Path("tiny"), "tiny"):
        load_model(name, verify=False).close()


def test_what_a_team_needs_of_a_model(folder: Path) -> None:
    model = load_model(folder)
    assert model.decode(model.encode("hello to Bob.\n\n")) == "hello to Bob.\n\n"
    stream = model.text_stream()
    assert stream.push(model.encode("hello")) == "hello"
    assert model.stop_ids == {2, 7}
    banned = model.reasoning_bans
    assert {1, 2, 7, *model.encode("#")} <= banned
    assert model.reasoning_bans is banned
    assert all(token < model.engine.vocab_size for token in banned)
    assert model.sampling == SamplingParams.from_model(model.engine.model)
    assert model.sampling.temperature == 0.6
    model.close()


def test_the_engine_s_options_are_passed_on(folder: Path) -> None:
    model = load_model(folder, max_tokens=100)
    assert model.engine.max_tokens == 100
    model.close()
    with pytest.raises(ConfigError):
        load_model(folder, max_tokens=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "bf16", torch.bfloat16])
def test_the_dtype_can_be_chosen(folder: Path, dtype: Any) -> None:
    model = load_model(folder, dtype=dtype, device=torch.device("cpu"))
    assert model.engine.dtype == torch.bfloat16
    model.close()


def test_auto_takes_the_checkpoint_s_dtype(folder: Path) -> None:
    tiny_llama().bfloat16().save_pretrained(folder)
    model = load_model(folder)
    assert model.engine.dtype == torch.bfloat16
    model.close()


def test_the_bundled_model_is_float32_on_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_llama().bfloat16().save_pretrained(folder)
    monkeypatch.setattr("hogwild_agents.bundled.bundled_path", lambda: folder)
    model = load_model(device="cpu")
    assert (model.name, model.engine.dtype) == ("bundled", torch.float32)
    model.close()
    model = load_model(device="cpu", dtype="bf16")
    assert model.engine.dtype == torch.bfloat16
    model.close()


def test_progress_is_told_and_nothing_printed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[LoadProgress] = []
    load_model(folder, on_progress=seen.append).close()
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["config", "tokenizer", "weights", "check"]
    last = [progress for progress in seen if progress.stage == "weights"][-1]
    assert last.done == last.total
    assert last.done > 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_shows_a_bar(
    folder: Path,
    terminal: bool,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    load_model(folder).close()
    out, err = capfd.readouterr()
    assert out == ""
    assert ("Loading weights" in err) == terminal
    assert err == "" or terminal
    assert talk.set_tqdm_hook(None) is None


def test_a_model_is_closed_at_the_end_of_its_with(folder: Path) -> None:
    with load_model(folder, verify=False) as model:
        lent = model.engine.model
        model.engine.block("a")
    with pytest.raises(ClosedError):
        model.engine.block("b")
    Engine(lent, verify=False).close()
    with pytest.raises(KeyError), load_model(folder, verify=False) as model:
        raise KeyError("mine")
    with pytest.raises(ClosedError):
        model.engine.block("b")


def test_transformers_talks_as_before(folder: Path) -> None:
    before = talk.get_verbosity()
    load_model(folder, on_progress=lambda progress: None).close()
    with pytest.raises(ModelError):
        load_model(folder / "nothing")
    assert talk.get_verbosity() == before
    assert talk.set_tqdm_hook(None) is None


def test_a_callback_that_raises_stops_the_load(folder: Path) -> None:
    def stop(progress: LoadProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_model(folder, on_progress=stop)
    assert talk.set_tqdm_hook(None) is None


# -- what can be wrong


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(file: str, size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_bytes((folder / file).read_bytes()[:size])

    return change


def remove(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def write(file: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).write_text(content)

    return change


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder: Path) -> None:
    """Spread the weights over two files; the second one is missing."""
    (folder / "model.safetensors").unlink()
    tiny_llama().save_pretrained(folder, max_shard_size="50KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def run_code(folder: Path) -> None:
    change_config(folder, model_type="mine", auto_map={"AutoConfig": "mine.Mine"})
    (folder / "mine.py").write_text("raise SystemExit('it was run')")


def lose_newlines(folder: Path) -> None:
    remove("tokenizer.json", "tokenizer_config.json", "model.safetensors")(folder)
    LOSSY["t5"]().save_pretrained(folder)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "has no config.json"),
    "config cut short": (cut("config.json", 40), "config.json' is broken"),
    "config is a list": (write("config.json", "[1]"), "names no model_type"),
    "config is empty": (write("config.json", "{}"), "names no model_type"),
    "unknown model": (lambda f: change_config(f, model_type="zzz"), "does not know it"),
    "wrong value": (lambda f: change_config(f, hidden_size="x"), "hidden_size"),
    "impossible value": (lambda f: change_config(f, hidden_act="zzz"), "zzz"),
    "own code": (run_code, "code of its own"),
    "no tokenizer": (remove("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
    "tokenizer cut short": (cut("tokenizer.json", 500), "tokenizer of"),
    "tokenizer of words": (write("tokenizer.json", "hello"), "tokenizer of"),
    "tokenizer config cut short": (cut("tokenizer_config.json", 20), "tokenizer of"),
    "tokenizer without newlines": (lose_newlines, r"tokenizer of .* cannot write '\\n'"),
    "no weights": (remove("model.safetensors"), "has no weights"),
    "empty weights": (cut("model.safetensors", 0), "broken or cut short"),
    "weights without head": (cut("model.safetensors", 100), "broken or cut short"),
    "weights cut short": (cut("model.safetensors", 9000), "broken or cut short"),
    "weights that are text": (write("model.safetensors", "x" * 5000), "broken or cut short"),
    "a missing tensor": (drop_a_tensor, r"lack 1 of its tensors, such as '.*up_proj.weight'"),
    "a missing shard": (shard, "lacks the weight file 'model-00002"),
    "other shapes": (lambda f: change_config(f, intermediate_size=64), "do not fit its config"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_broken_folder_is_told_in_one_sentence(
    case: str, folder: Path, no_network: None, capfd: pytest.CaptureFixture[str]
) -> None:
    change, match = WRONG[case]
    change(folder)
    capfd.readouterr()
    with pytest.raises(ModelError, match=match) as caught:
        load_model(folder, on_progress=lambda progress: None)
    message = str(caught.value)
    assert_one_sentence(message)
    assert str(folder) in message
    assert capfd.readouterr() == ("", "")


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert message.endswith(".")
    assert len(re.findall(r"[.!?]\s", message)) == 0
    assert len(message) < 400


def test_a_broken_index_of_shards_is_told(folder: Path) -> None:
    remove("model.safetensors")(folder)
    for content, match in (("{", "is broken"), ("{}", "lists no weight files")):
        (folder / "model.safetensors.index.json").write_text(content)
        with pytest.raises(ModelError, match=match):
            load_model(folder)


def test_shards_and_older_weights_are_loaded(folder: Path) -> None:
    plain = load_file(folder / "model.safetensors")
    remove("model.safetensors")(folder)
    torch.save(plain, folder / "pytorch_model.bin")
    load_model(folder, verify=False).close()
    remove("pytorch_model.bin")(folder)
    tiny_llama().save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    load_model(folder, verify=False).close()


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nothing", "~/nothing at all", "a/b/c", "a b"]
)
def test_a_missing_folder_is_told(name: str, no_network: None) -> None:
    with pytest.raises(ModelError, match="There is no model folder") as caught:
        load_model(name)
    assert_one_sentence(str(caught.value))


def test_a_missing_folder_given_as_a_path_is_no_hub_id(no_network: None) -> None:
    with pytest.raises(ModelError, match="There is no model folder 'org/name'"):
        load_model(Path("org/name"))


def test_a_file_is_no_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        load_model(folder / "config.json")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_told(name: str) -> None:
    with pytest.raises(ModelError, match="name is empty"):
        load_model(name)


@pytest.mark.parametrize("name", [5, None, b"x", ["x"]])
def test_a_name_that_is_no_text_is_told(name: Any) -> None:
    with pytest.raises(ModelError, match="which is no text: give 'bundled'"):
        load_model(name)


@pytest.mark.parametrize("option", ["max_tokens", "max_context"])
@pytest.mark.parametrize("value", [0, 1.5, True, "300", float("nan")])
def test_a_bound_that_is_no_whole_number_is_told_before_anything_is_looked_for(
    option: str, value: Any
) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {value!r}, but must be a whole number"):
        load_model("no-such-org/no-such-model", **{option: value})


def test_model_options_that_are_no_mapping_are_told() -> None:
    with pytest.raises(ModelError, match="model_options is 'eager': give a mapping"):
        load_model(model_options="eager")  # type: ignore[arg-type]


def test_a_hub_id_that_cannot_be_had_is_told_in_one_sentence() -> None:
    with pytest.raises(ModelError, match="model 'no-such-org/no-such-model' is neither") as caught:
        load_model("no-such-org/no-such-model")
    assert_one_sentence(str(caught.value))


def test_a_model_without_rope_is_refused_before_its_weights_are_read(folder: Path) -> None:
    config = GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_bytes(b"")
    with pytest.raises(UnsupportedModelError, match=r"'gpt2'.*no rotary position embedding"):
        load_model(folder)


def test_a_model_that_is_no_decoder_is_refused(folder: Path) -> None:
    T5Config().save_pretrained(folder)
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        load_model(folder)


def test_a_model_with_rope_but_no_language_head_is_refused(folder: Path) -> None:
    transformers.EuroBertConfig().save_pretrained(folder)
    with pytest.raises(UnsupportedModelError, match="no causal language model"):
        load_model(folder)


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "", 1.5])
def test_an_unknown_device_is_told(device: Any) -> None:
    with pytest.raises(ModelError, match="There is no device") as caught:
        load_model("/no/such/folder", device=device)
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("device", ["cuda", "cuda:97", "xpu", "meta"])
def test_a_device_that_this_machine_lacks_is_told(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ModelError, match=f"device '{device}' cannot be used") as caught:
        load_model("/no/such/folder", device=device)
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("dtype", ["float8", "int8", "", torch.int64])
def test_an_unknown_dtype_is_told(dtype: Any) -> None:
    with pytest.raises(ModelError, match=r"dtype '.*' cannot be used") as caught:
        load_model("/no/such/folder", dtype=dtype)
    assert_one_sentence(str(caught.value))


def test_too_little_memory_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(LlamaForCausalLM, "to", full)
    with pytest.raises(ModelError, match="do not fit into the memory"):
        load_model(folder)


def test_nothing_stays_of_a_load_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine refuses the model at the last moment; then the model is gone, unchanged."""
    loaded: list[weakref.ref[Any]] = []
    read_weights = weights.read_weights

    def watch(*args: Any, **options: Any) -> Any:
        model = read_weights(*args, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr("hogwild_agents.models.read_weights", watch)
    with pytest.raises(ConfigError, match="the check of the model on loading"):
        load_model(folder, max_context=10)
    gc.collect()
    assert [reference() for reference in loaded] == [None]
