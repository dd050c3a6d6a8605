"""What a tuning leaves: peft's own files, with which peft, the engine and a merged model write alike."""

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402

from soban.learn.training.families import FAMILIES  # noqa: E402
from soban.learn.tuning import resolve  # noqa: E402
from soban.learn.tuning.arguments import TuneArguments  # noqa: E402
from soban.text.chat.template import encode_chat  # noqa: E402
from tests.learn.tuning import small  # noqa: E402

QUESTION = "Mina: old ball?"
IDS = [2, *range(40, 70)]


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_the_engine_and_the_merged_model_have_the_same_logits(tmp_path: Path, family: str) -> None:
    folder, out = small.model(tmp_path / "m", family), tmp_path / "out"
    data = small.pairs(tmp_path / "pairs.jsonl", 30)
    assert small.tune(folder, data, out, "--base", "f32", "--steps", "6", "--learning-rate", "3e-2") == 0
    bare = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        plain = bare.eval()(torch.tensor([IDS])).logits[0].numpy()
        whole = peft.PeftModel.from_pretrained(bare, out).double().eval()
        theirs = whole(torch.tensor([IDS])).logits[0].numpy()
        merged = whole.merge_and_unload()(torch.tensor([IDS])).logits[0].numpy()
    ours = soban.load(folder, dtype="f32", adapter=out).logits(IDS)
    assert np.abs(theirs - plain).max() > 1e-2  # it has learnt something
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(merged, theirs, rtol=1e-6, atol=1e-6)


def test_peft_saves_what_it_has_loaded_as_the_same_numbers(tmp_path: Path) -> None:
    folder, out = small.model(tmp_path / "m", "gemma2"), tmp_path / "out"
    data = small.pairs(tmp_path / "pairs.jsonl", 30)
    flags = ("--base", "q4", "--steps", "2", "--rank", "5", "--rank-of", "q_proj=3", "--rslora", "--layers", "1")
    assert small.tune(folder, data, out, *flags) == 0
    bare = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    peft.PeftModel.from_pretrained(bare, out).save_pretrained(tmp_path / "again")
    one, other = (load_file(place / "adapter_model.safetensors") for place in (out, tmp_path / "again"))
    assert one.keys() == other.keys() and all("layers.1." in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"].shape[0] == 3
    config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["use_rslora"] and config["layers_to_transform"] == [1] and config["inference_mode"]
    assert config["base_model_name_or_path"] == str(folder)


def test_the_form_of_the_prompt_is_kept_and_used_when_it_runs(tmp_path: Path) -> None:
    folder, out = small.model(tmp_path / "m", "llama"), tmp_path / "out"
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["chat_template"]  # a base model
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    data = small.pairs(tmp_path / "pairs.jsonl", 30)
    assert small.tune(folder, data, out, "--steps", "2", "--template", "alpaca", "--context", "250") == 0
    bare, model = soban.load(folder), soban.load(folder, adapter=out)
    assert bare.template is None and model.template is not None
    ids = model.prompt_ids(QUESTION)
    assert ids == encode_chat(model.tokenizer, model.template, [{"role": "user", "content": QUESTION}])
    assert ids[0] == 2 and model.detokenize(ids).endswith("### Response:")
    assert bare.adapted(out).adapted(None).template is None


def test_factors_are_read_by_peft_with_the_loss_that_was_measured(tmp_path: Path) -> None:
    folder, out = small.model(tmp_path / "m", "llama"), tmp_path / "out"
    data = small.pairs(tmp_path / "pairs.jsonl", 30)
    assert small.tune(folder, data, out, "--method", "ia3", "--steps", "6", "--learning-rate", "0.1") == 0
    judge = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    assert measured(
        peft.PeftModel.from_pretrained(judge, out).double().eval(), folder, data, tmp_path
    ) == pytest.approx(small.numbers(out, "held_out_bits_per_byte")[-1], rel=1e-4)


def test_a_model_all_of_whose_weights_learn_is_one_that_runs(tmp_path: Path) -> None:
    folder, out = small.model(tmp_path / "m", "gemma2"), tmp_path / "out"
    data = small.pairs(tmp_path / "pairs.jsonl", 30)
    assert small.tune(folder, data, out, "--method", "full", "--steps", "6") == 0
    assert small.tune(folder, data, tmp_path / "q4", "--method", "full", "--base", "q4") == 2
    judge = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float64, attn_implementation="eager")
    bits = small.numbers(out, "held_out_bits_per_byte")
    assert measured(judge.eval(), folder, data, tmp_path) == pytest.approx(bits[-1], rel=1e-4) and bits[-1] < bits[0]
    ours = soban.load(out, dtype="f32")
    with torch.no_grad():
        np.testing.assert_allclose(ours.logits(IDS), judge(torch.tensor([IDS])).logits[0].numpy(), rtol=1e-4, atol=2e-4)
    assert ours.template is not None


def measured(judge: Any, folder: Path, data: Path, tmp_path: Path) -> float:
    """Bits a byte of the answers held out, example by example."""
    arguments = TuneArguments(data=data, out=tmp_path / "none", model=folder)
    nats, size = 0.0, 0
    for one in resolve.subject(arguments).examples(arguments).held_out:
        with torch.no_grad():
            logits = judge(torch.from_numpy(one.ids)[None]).logits[0, :-1]
        learnt = torch.from_numpy(one.learnt[1:])
        aims = torch.from_numpy(one.ids[1:])[learnt]
        nats += torch.nn.functional.cross_entropy(logits[learnt], aims, reduction="sum").item()
        size += one.bytes
    return nats / math.log(2) / size


def test_the_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[3] / "docs" / "tuning.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(compile(block, "tuning.md", "exec"), {})
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_fifty_steps_come_to_the_losses_of_a_plain_loop_of_peft(tmp_path: Path) -> None:
    folder, data = small.model(tmp_path / "m", "gemma2"), small.pairs(tmp_path / "pairs.jsonl", 30)
    out = tmp_path / "out"
    flags = ("--base", "f32", "--steps", "50", "--learning-rate", "1e-2", "--batch-size", "2", "--rank", "4")
    first = ("--base", "f32", "--steps", "1", "--batch-size", "2", "--rank", "4")
    assert small.tune(folder, data, tmp_path / "first", *first, "--learning-rate", "1e-30") == 0
    assert small.tune(folder, data, out, *flags) == 0
    settings, sets, _, run = small.ready(folder, data, base="f32", batch_size=2, rank=4, steps=50, learning_rate=1e-2)
    run.computer.close()
    judge = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    judge = peft.PeftModel.from_pretrained(judge, tmp_path / "first", is_trainable=True)
    weights = [weight for weight in judge.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2, betas=(0.9, 0.999), weight_decay=0.0)
    ids = {tuple(one.ids[:-1].tolist()): one for one in sets.train}
    theirs = []
    for step, (batch,) in zip(range(50), run.batches(0), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        optimizer.zero_grad()
        nats, count = 0.0, 0
        places = [*batch.starts.tolist(), batch.inputs.size]
        flat = batch.inputs.reshape(-1).tolist()
        for start, stop in itertools.pairwise(places):
            if (one := ids.get(tuple(flat[start:stop]))) is None:
                continue  # what fills a row up
            logits = judge(torch.from_numpy(one.ids)[None]).logits[0, :-1]
            learnt = torch.from_numpy(one.learnt[1:])
            aims = torch.from_numpy(one.ids[1:])[learnt]
            nats += torch.nn.functional.cross_entropy(logits[learnt], aims, reduction="sum")
            count += int(learnt.sum())
        loss = nats / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        theirs.append(loss.item())
    ours = small.numbers(out, "loss")
    assert len(ours) == 50 and ours[-1] < 0.7 * ours[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
