"""Models: safetensors, its index, config.json, generation_config.json, llama2.c's .bin; loads give finite logits."""

import json
import random
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.models import Architecture, architecture
from soban.ops import LayerGeometry, make_batch, make_cache, runner
from soban.packing.assemble import assemble
from soban.packing.fitting import fitted
from soban.weights.checkpoint import Tensor
from soban.weights.llama2c import MAGIC, MODERN, NUMBERS, PADDED_HEADER, Header
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import write_safetensors
from tests.fuzz.changing import changed, changed_json, damaged, kept_size, put_number, written
from tests.fuzz.formats import Files, Format, Wrong, is_json, read_files

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 24, "hidden_size": 8,
    "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "attention_bias": False, "mlp_bias": False,
    "torch_dtype": "float32", "use_cache": True, "transformers_version": "5.23.0", "attention_dropout": 0.0,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "vocab_size": 24, "hidden_size": 8,
    "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "max_position_embeddings": 32, "sliding_window": 8, "query_pre_attn_scalar": 4, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh",
    "rope_theta": 10000.0, "eos_token_id": [1, 2], "bos_token_id": 2, "layer_types": ["sliding_attention"],
    "dtype": "float32",
}  # fmt: skip
ROPES: tuple[dict[str, Any], ...] = (
    {}, {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 16}},
    {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 32}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 16}},
    {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1.0, 2.0], "factor": 2.0,
                      "original_max_position_embeddings": 16}},
)  # fmt: skip
CONFIGS = [json.dumps(LLAMA | rope) for rope in ROPES] + [json.dumps(LLAMA | {"model_type": "mistral"})]
GENERATION = {
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": 0,
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 5,
    "top_p": 0.9,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "max_new_tokens": 4,
    "max_length": 20,
    "min_new_tokens": 1,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[4], [5, 6]],
    "suppress_tokens": [7],
    "begin_suppress_tokens": [8],
    "forced_eos_token_id": 2,
    "num_beams": 1,
    "num_return_sequences": 1,
    "typical_p": 1.0,
    "transformers_version": "5.0",
    "prompt_lookup_num_tokens": 2,
    "continue_prompt": True,
}
ENORMOUS = 1e15  # of a weight: products of some such numbers have no place in float32
KNOWN_TYPES = ("F32", "F16", "BF16", "F64", "I8", "U8", "I32", "BOOL", "F8_E4M3")


def make_weights(path: Path, config: dict[str, Any], names: set[str] | None = None) -> None:
    """A safetensors file of small random weights; of all of them, or those that are named."""
    dice = np.random.default_rng(0)
    shapes = architecture(config).plan.shapes()
    values = {name: dice.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    held = {name: value for name, value in values.items() if names is None or name in names}
    write_safetensors(path, [(name, "F32", v.shape) for name, v in held.items()], lambda name: [held[name]])


def sound(made: Architecture, weights: Any, largest: Callable[[], float] = lambda: 0.0) -> None:
    """Raises Wrong where the model's logits are no numbers, though its largest weight gives no reason for that.

    Of weights that overflow generation tells when it meets them, and so does this.
    """
    config = made.config
    layers = [LayerGeometry(config.kv_heads, config.head_size)] * config.num_hidden_layers
    cache = make_cache(1, layers, "f32")
    top = min(config.vocab_size, 24)
    logits = runner(made.record(weights), 4, 4).run(
        make_batch([[1, top - 1, 0]], [0], [range(cache.pages)], range(3)), cache
    )
    if np.isnan(logits).any() and not largest() < ENORMOUS:
        raise UserError("the model's output is not a number", hint="its weights are damaged: fetch the model again")
    if logits.shape != (3, config.vocab_size) or np.isnan(logits).any():
        raise Wrong(f"logits {logits.shape}, {int(np.isnan(logits).sum())} of them NaN")


def read_model(folder: Path, dice: random.Random, name: str = "") -> None:
    """Opens, checks and runs the model in the folder; now and then by soban.load, which takes ten times as long."""
    path = folder / name if name else folder
    if not name and dice.random() < 0.02:
        from soban.model import load

        load(path, dtype="f32").generate("ab", max_new_tokens=2, seed=1)
        return
    checkpoint = open_checkpoint(path)
    config = checkpoint.config
    made = architecture(config, rope_interleaved=bool(name) and config.get("rope_interleaved", False))
    fit = fitted(made, checkpoint)
    made, checkpoint = fit.architecture, fit.checkpoint
    sound(made, assemble(made, checkpoint), lambda: largest_of(checkpoint.tensors.values()))


def largest_of(tensors: Iterable[Tensor]) -> float:
    """The largest weight."""
    with np.errstate(all="ignore"):
        return max(float(np.abs(tensor.float32()).max(initial=0)) for tensor in tensors)


def tokenizer_file() -> Files:
    """A tokenizer that is small enough for the models here."""
    from tests.fuzz.words import wordlevel

    return {"tokenizer.json": json.dumps(wordlevel()[1]).encode()}


def safetensors(folder: Path) -> Format:
    make_weights(folder / "model.safetensors", LLAMA)
    data = (folder / "model.safetensors").read_bytes()

    def make(dice: random.Random) -> Files:
        return {"model.safetensors": changed_safetensors(dice, data)}

    base = {"config.json": json.dumps(LLAMA).encode(), "model.safetensors": data, **tokenizer_file()}
    return Format("safetensors", make, read_model, lambda files: beyond_header(files["model.safetensors"]), base)


def changed_safetensors(dice: random.Random, data: bytes) -> bytes:
    """A file whose header, or what lies behind it, is changed; half of the time so that the header stays valid."""
    (length,) = struct.unpack_from("<Q", data)
    chance = dice.random()
    if chance < 0.35:
        return kept_size(dice, data, 8 + length)
    if chance < 0.42:
        return damaged(dice, data)
    if chance < 0.47:
        return put_number(dice, data, 0, "<Q")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    if chance < 0.72:
        one, other = dice.choice(names), dice.choice(names)
        entry = header[one]
        act = dice.randrange(5)
        if act == 0:
            entry["dtype"] = dice.choice(KNOWN_TYPES if dice.random() < 0.3 else ("F32", "I32", "U32"))
        elif act == 1:
            entry["shape"] = dice.choice(
                (
                    entry["shape"][::-1],
                    [*entry["shape"], 1],
                    [1, *entry["shape"]],
                    [4 * entry["shape"][0], *entry["shape"][1:]],
                )
            )
        elif act == 2:
            header[one], header[other] = header[other], header[one]
        elif act == 3:
            header[dice.choice((one + "x", one.replace("0", "1"), "가", other + ".bias"))] = header.pop(one)
        else:
            header["__metadata__"] = dice.choice(
                (
                    {},
                    {"format": "pt"},
                    {"soban.blocks": "{}"},
                    {"soban.blocks": "["},
                    {"soban.blocks": json.dumps({one: ["q8", 8, 8]})},
                )
            )
        text = json.dumps(header).encode()
    else:
        text = written(dice, changed(dice, header))
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def beyond_header(data: bytes) -> bool:
    """Whether the header's length and its JSON hold, so that what it says is looked at."""
    if len(data) < 8 or (length := struct.unpack_from("<Q", data)[0]) > len(data) - 8:
        return False
    try:
        return isinstance(json.loads(data[8 : 8 + length]), dict)
    except (ValueError, RecursionError):
        return False


def index(folder: Path) -> Format:
    names = sorted(architecture(LLAMA).plan.shapes())
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, held in parts.items():
        make_weights(folder / name, LLAMA, set(held))
    weight_map = {name: file for file, held in parts.items() for name in held}
    text = json.dumps({"metadata": {"total_size": 4096}, "weight_map": weight_map})
    base = read_files(folder, parts) | {"config.json": json.dumps(LLAMA).encode(), **tokenizer_file()}

    def make(dice: random.Random) -> Files:
        return {"model.safetensors.index.json": changed_json(dice, text)}

    return Format("index.json", make, read_model, is_json, base)


def config(folder: Path) -> Format:
    texts = [*CONFIGS, *[json.dumps(GEMMA | rope) for rope in ROPES[:2]]]
    make_weights(folder / "llama.safetensors", LLAMA)
    make_weights(folder / "gemma.safetensors", GEMMA)
    llama, gemma = (folder / f"{name}.safetensors" for name in ("llama", "gemma"))
    held = {path: path.read_bytes() for path in (llama, gemma)}

    def make(dice: random.Random) -> Files:
        text = dice.choice(texts)
        # the weights come along only where they are another family's than in the folder
        files = {"config.json": changed_json(dice, text)}
        return files | ({"model.safetensors": held[gemma]} if "Gemma2" in text else {})

    base = {"model.safetensors": held[llama], **tokenizer_file()}
    return Format("config.json", make, read_model, lambda files: is_json({"": files["config.json"]}), base)


def generation(folder: Path) -> Format:
    from soban.model import Model, load
    from tests.tiny import make_model

    make_model(folder / "whole", hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
               num_key_value_heads=1, head_dim=8)  # fmt: skip
    texts = [
        json.dumps(GENERATION),
        json.dumps({"eos_token_id": 1}),
        json.dumps({k: v for k, v in GENERATION.items() if k != "do_sample"}),
    ]
    names = [path.name for path in (folder / "whole").iterdir() if path.name != "generation_config.json"]
    kept: list[Model] = []

    def make(dice: random.Random) -> Files:
        return {"generation_config.json": changed_json(dice, dice.choice(texts))}

    def read(place: Path, dice: random.Random) -> None:
        if not kept or dice.random() < 0.02:
            kept[:] = [load(place, dtype="f32", context=32)]
        model, checkpoint = kept[0], open_checkpoint(place)
        loaded = replace(model.loaded, generation_config=checkpoint.generation_config)
        model.loaded, model.ends = loaded, loaded.ends
        text = model.generate("ab", max_new_tokens=3, seed=1)
        if not isinstance(text, str):
            raise Wrong(f"{type(text)}")

    return Format("generation_config.json", make, read, is_json, read_files(folder / "whole", names))


def bin_of(version: int, folder: Path) -> Format:
    header = Header(version, 16, 32, 1, 2, 1, 24, 32, version != 1, 16 if version == 2 else None)
    dice = np.random.default_rng(version)
    numbers = (header.hidden, header.intermediate, 1, 2, 1, header.vocabulary, header.context)
    if version == 0:
        data = NUMBERS.pack(*numbers)
    else:
        data = struct.pack("<I", MAGIC) + MODERN.pack(version, *numbers, int(header.tied), header.group or 0)
        data += bytes(PADDED_HEADER - len(data))
    for kind in header.kinds():
        count = int(np.prod(header.shapes()[kind]))
        for _ in range(header.copies(kind)):
            if header.group_of(kind) is None:
                data += dice.normal(0, 0.3, count).astype("<f4").tobytes()
            else:
                data += dice.integers(-127, 128, count, np.int8).tobytes()
                data += dice.normal(0, 0.01, count // header.group).astype("<f4").tobytes()
    assert len(data) == header.file_size
    first = 0 if version == 0 else 4

    def make(dice: random.Random) -> Files:
        chance = dice.random()
        if chance < 0.5:
            made = kept_size(dice, data, header.length)
        elif chance < 0.6:
            made = damaged(dice, data)
        elif chance < 0.8:
            made = put_number(dice, data, first + 4 * dice.randrange(7 if version == 0 else 8))
            if version and dice.random() < 0.2:
                made = made[:36] + bytes([dice.randrange(256)]) + made[37:]
        else:  # of a size that the header promises
            made = _promised(dice, data, header)
        return {"model.bin": made}

    def beyond(files: Files) -> bool:
        made = files["model.bin"]
        return (len(made) == len(data) and made[: header.length] == data[: header.length]) or _fits(made)

    return Format(f"bin-v{version}", make, partial(read_model, name="model.bin"), beyond, {"model.bin": data})


def _fits(data: bytes) -> bool:
    """Whether the file has the size that its header promises."""
    from soban.base.errors import UserError
    from soban.weights.llama2c import read_header

    try:
        return read_header(Path("x"), data).file_size == len(data)
    except UserError:
        return False


def _promised(dice: random.Random, data: bytes, header: Header) -> bytes:
    """Another header, and as many bytes behind it as it promises."""
    changes = {
        name: dice.choice((1, 2, 4, 8, 16, 32)) for name in ("heads", "kv_heads", "layers") if dice.random() < 0.4
    }
    changes |= {name: 16 * dice.randrange(1, 4) for name in ("hidden", "intermediate") if dice.random() < 0.3}
    changes |= {name: dice.choice((1, 3, 24, 31, 200)) for name in ("vocabulary", "context") if dice.random() < 0.3}
    made = replace(header, **changes)
    numbers = (made.hidden, made.intermediate, made.layers, made.heads, made.kv_heads, made.vocabulary, made.context)
    head = bytearray(data[: header.length])
    struct.pack_into("<7i", head, 0 if made.version == 0 else 8, *numbers)
    try:
        size = made.file_size - header.length
    except ZeroDivisionError:
        size = len(data) - header.length
    body = data[header.length :]
    return bytes(head) + (body * (size // len(body) + 1))[: min(size, 1 << 20)]


FORMATS: dict[str, Callable[[Path], Format]] = {
    "safetensors": safetensors, "index.json": index, "config.json": config, "generation_config.json": generation,
    **{f"bin-v{version}": partial(bin_of, version) for version in (0, 1, 2)},
}  # fmt: skip
