"""Small random encoders, and what transformers and soban make of them."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban import ops
from soban.models import architecture
from soban.ops.batch import PAGE
from soban.packing.assemble import assemble
from soban.packing.fitting import fitted
from soban.weights.opening import open_checkpoint

from ..tiny import tokenizer
from .official import write

BERT: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 264, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 64,
    "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-3, "pad_token_id": 0,
    "position_embedding_type": "absolute", "use_cache": True, "classifier_dropout": None,
    "gradient_checkpointing": False, "torch_dtype": "float32", "transformers_version": "4.40.0",
}  # fmt: skip
ROBERTA: dict[str, Any] = {
    **BERT, "model_type": "roberta", "architectures": ["RobertaModel"], "max_position_embeddings": 66,
    "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
MODERNBERT: dict[str, Any] = {
    "model_type": "modernbert", "architectures": ["ModernBertModel"], "vocab_size": 264, "hidden_size": 32,
    "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 24, "hidden_activation": "gelu",
    "max_position_embeddings": 64, "norm_eps": 1e-3, "norm_bias": False, "attention_bias": False, "mlp_bias": False,
    "global_attn_every_n_layers": 3, "local_attention": 10, "global_rope_theta": 300.0, "local_rope_theta": 20.0,
    "classifier_pooling": "mean", "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0,
    "pad_token_id": 3, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2,
    "embedding_dropout": 0.0, "mlp_dropout": 0.0, "attention_dropout": 0.0, "decoder_bias": True,
    "reference_compile": False, "initializer_range": 0.02, "initializer_cutoff_factor": 2.0,
    "gradient_checkpointing": False, "layer_norm_eps": 1e-5, "position_embedding_type": "absolute",
    "deterministic_flash_attn": False, "sparse_prediction": False, "sparse_pred_ignore_index": -100,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "modernbert": MODERNBERT,
    "modernbert-biased": {
        **MODERNBERT,
        "norm_bias": True,
        "attention_bias": True,
        "mlp_bias": True,
        "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 50.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 9.0},
        },
    },
    "roberta": ROBERTA,
    "xlm-roberta": {**ROBERTA, "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], "output_past": True},
}
RANKERS: dict[str, dict[str, Any]] = {
    name: {**CONFIGS[name], "architectures": [kind], "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    for name, kind in (
        ("bert", "BertForSequenceClassification"), ("roberta", "RobertaForSequenceClassification"),
        ("xlm-roberta", "XLMRobertaForSequenceClassification"),
    )
}  # fmt: skip
RANKERS["modernbert"] = {
    **MODERNBERT, "architectures": ["ModernBertForSequenceClassification"], "classifier_pooling": "cls",
    "classifier_bias": True, "norm_bias": True, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
}  # fmt: skip
DICE = np.random.default_rng(3)
TEXTS = [[int(i) for i in DICE.integers(6, 262, length)] for length in (24, 64, 1, 33)]  # the model's limit, too

Floats = npt.NDArray[np.float64]


def folder_of(path: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """An encoder's folder with a tokenizer and random weights, wide enough that types and positions bite."""
    path.mkdir(parents=True, exist_ok=True)
    dice, tensors = np.random.default_rng(seed), {}
    for name, shape in architecture(config).plan.file_shapes().items():
        tensors[name] = dice.normal(1 if name.endswith(("LayerNorm.weight", "norm.weight")) else 0, 0.3, shape).astype(
            np.float32
        )
    write(path, tensors)
    files = {"config.json": config, "tokenizer.json": tokenizer(), "tokenizer_config.json": {}}
    for name, content in files.items():
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    return path


def theirs(folder: Path, texts: list[list[int]] = TEXTS, types: list[list[int]] | None = None) -> list[Floats]:
    """Hidden states, or scores where the model gives such, of each text, in float64."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    model, info = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    assert not [name for name in info["missing_keys"] if "pooler" not in name]
    results = []
    for i, text in enumerate(texts):
        more = {"token_type_ids": torch.tensor([types[i]])} if types else {}
        with torch.no_grad():
            out = model.eval()(torch.tensor([text]), **more)
        results.append((out.logits if "logits" in out else out.last_hidden_state)[0].numpy())
    return results


def ours(folder: Path, texts: list[list[int]] = TEXTS, types: list[list[int]] | None = None) -> list[Floats]:
    """The same by soban, all texts in one batch."""
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    arch = fit.architecture
    runner = ops.runner(arch.record(assemble(arch, fit.checkpoint)), sum(map(len, texts)), sum(map(len, texts)))
    counts = [-(-len(text) // PAGE) for text in texts]
    ends = np.cumsum([0, *counts])
    tables = [list(range(start, end)) for start, end in itertools.pairwise(ends)]
    starts = np.cumsum([0, *map(len, texts)])
    outputs = list(map(int, starts[:-1])) if arch.config.labels else range(int(starts[-1]))
    cache = ops.make_cache(int(ends[-1]), arch.config.geometries, "f32")
    flat = [t for one in types for t in one] if types else []
    batch = ops.make_batch(texts, [0] * len(texts), tables, outputs, types=flat)
    rows = runner.run(batch, cache).astype(np.float64)
    return list(rows) if arch.config.labels else np.split(rows, starts[1:-1])


def far(folder: Path, **about: Any) -> float:
    """How far ours is from theirs, as a share of the largest number."""
    pairs = list(zip(theirs(folder, **about), ours(folder, **about), strict=True))
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)
