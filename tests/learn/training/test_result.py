"""What a training leaves is a model like any other: for transformers, for soban, and as llama2.c's file."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import safetensors.torch  # noqa: E402

import soban  # noqa: E402
from soban.cli import main  # noqa: E402
from soban.learn.data.shards import Shards  # noqa: E402
from tests.convert.small import program, read_bin, says  # noqa: E402
from tests.learn.training import small  # noqa: E402

PROMPT = "Mina went to the park"
# float32 sums over 32 and 48 products in other orders: a few times eps * sqrt(48) of logits below 10
NEAR = 1e-5


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt2"])
def trained(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("result") / "m"
    flags = ["--steps", 20, "--evaluate-every", 20, "--learning-rate", "1e-2", "--family", request.param]
    flags += ["--key-value-heads", 4] if request.param == "gpt2" else []
    assert small.train(data, out, *flags) == 0
    return out


def last_weights(out: Path) -> dict[str, "torch.Tensor"]:
    """The weights as the loop had them after the last step."""
    tensors = safetensors.torch.load_file(out / "training" / "checkpoint.safetensors")
    return {name.removeprefix("weight."): value for name, value in tensors.items() if name.startswith("weight.")}


def test_transformers_has_the_weights_that_were_trained(trained: Path, data: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(trained)
    weights = last_weights(trained)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights[name]), name
    assert model.generation_config.eos_token_id == Shards(data).eos_id
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    ids = tokenizer(PROMPT)["input_ids"]
    document = Shards(data).documents[3]
    text = tokenizer.decode(document, skip_special_tokens=True)
    assert ids[0] == Shards(data).bos_id and tokenizer(text)["input_ids"] == list(document)[:-1]
    assert tokenizer.model_max_length == 32


def test_soban_has_transformers_logits(trained: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(trained, attn_implementation="eager")
    model = soban.load(str(trained), dtype="f32")
    ids = model.tokenize(PROMPT)
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(model.logits(ids), wanted, rtol=NEAR, atol=NEAR)


def test_the_bin_and_the_folder_of_it_hold_the_same_weights(trained: Path, tmp_path: Path) -> None:
    if '"llama"' not in (trained / "config.json").read_text(encoding="utf-8"):
        assert main(["convert", str(trained), str(tmp_path / "x.bin")]) == 2  # which the format cannot hold
        return
    assert main(["convert", str(trained), str(tmp_path / "x.bin")]) == 0
    header, arrays = read_bin((tmp_path / "x.bin").read_bytes())
    weights = last_weights(trained)
    assert (header["dim"], header["n_layers"], header["max_seq_len"]) == (32, 2, 32)
    np.testing.assert_array_equal(arrays["embed"], weights["model.embed_tokens.weight"].numpy())
    for layer in range(2):
        for name, ours in (("w1", "gate"), ("w2", "down"), ("w3", "up")):
            np.testing.assert_array_equal(
                arrays[name][layer], weights[f"model.layers.{layer}.mlp.{ours}_proj.weight"].numpy()
            )
    assert main(["convert", str(tmp_path / "x.bin"), str(tmp_path / "back")]) == 0
    back = safetensors.torch.load_file(tmp_path / "back" / "model.safetensors")
    for name, weight in weights.items():
        assert torch.equal(back[name].float(), weight), name


def test_run_c_writes_what_soban_writes(trained: Path, tmp_path: Path) -> None:
    if '"llama"' not in (trained / "config.json").read_text(encoding="utf-8"):
        pytest.skip("run.c knows llamas only")
    built = program("run", tmp_path)
    assert main(["convert", str(trained), str(tmp_path / "x.bin")]) == 0
    written = says(built, tmp_path / "x.bin", tmp_path / "tokenizer.bin", PROMPT, 30)
    model = soban.load(str(trained), dtype="f32")
    new = 30 - len(model.tokenize(PROMPT))
    ours = model.generate(PROMPT, echo=True, max_new_tokens=new, do_sample=False)
    assert isinstance(ours, str) and written.startswith(PROMPT) and ours.startswith(written.rstrip())


@pytest.mark.slow
def test_the_commands_of_the_guide_work_one_after_the_other(tmp_path: Path) -> None:
    """As a user types them, each in a process of its own, without a network."""
    (tmp_path / "stories.txt").write_text(small.text(400).replace("\n\n", "\n<|endoftext|>\n"), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "SOBAN_LANG": "en"}
    environment["PYTHONPATH"] = str(Path(soban.__file__).parents[1])
    # a port that nobody listens at, should anybody ask for a file
    environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HF_ENDPOINT": "http://127.0.0.1:9"}
    commands = [
        "data tinystories --sample stories.txt --vocab-size 320 --out data/",
        "train --preset 260k --data data/ --out my-model --context 64 --forecast",
        "train --preset 260k --data data/ --out my-model --context 64 --batch-size 4 --steps 20",
        "run my-model --max-new-tokens 20",
        "convert my-model my-model.bin",
        "run my-model.bin --max-new-tokens 20",
    ]
    output = []
    for command in commands:
        words = command.split() + (["Lily and Tom went to the park"] if command.startswith("run") else [])
        done = subprocess.run(
            [sys.executable, "-m", "soban", *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=600, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        output.append(done)
    assert "bits per byte" in output[2].stderr
    assert output[3].stdout.strip() and (tmp_path / "tokenizer.bin").is_file()


def learns(data: Path, out: Path, *flags: object) -> float:
    assert small.train(data, out, "--preset", "260k", *flags, shape=()) == 0
    return small.numbers(out, "held_out_bits_per_byte")[-1]


@pytest.mark.slow
def test_a_small_network_learns_what_the_tales_are_made_of(data: Path, tmp_path: Path) -> None:
    """Each tale has 6 x 5 x 6 x 6 x 6 x 4 x 2 ways to be told, 15.7 bits in about 118 bytes: 0.13 bits a byte."""
    flags = ("--context", 64, "--batch-size", 8, "--steps", 120, "--evaluate-every", 120, "--no-samples")
    bits = learns(data, tmp_path / "m", *flags)
    assert 0.13 < bits < 0.6  # from 5 bits a byte before the first step


@pytest.mark.slow
def test_260k_weights_learn_english_in_two_minutes(fixtures: Path, tmp_path: Path) -> None:
    source = fixtures / "text" / "tinystories_sample.txt"
    data = small.prepared(source, tmp_path / "data", 512)
    flags = ("--context", 256, "--batch-size", 16, "--steps", 280, "--evaluate-every", 280, "--no-samples")
    assert learns(data, tmp_path / "m", *flags) < 2.05
