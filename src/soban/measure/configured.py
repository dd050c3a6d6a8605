"""What in a config.json says one thing twice, or what its weights do not bear out, though the model runs."""

from collections.abc import Iterator

from soban.base.errors import Finding, UserError
from soban.models import Architecture
from soban.packing.fitting import Fitted, quantised_by, stale_quantisation


def config_findings(architecture: Architecture, fit: Fitted) -> Iterator[Finding]:
    """`architecture`: as config.json has it; `fit`: what it comes to with these weights."""
    config, checkpoint = fit.checkpoint.config, fit.checkpoint
    if config.get("rope_scaling") and config.get("rope_parameters"):
        yield Finding(
            "rope-twice",
            UserError(
                "config.json has rope_scaling and rope_parameters; the former holds, as in transformers",
                hint="take out the one that is not meant",
            ),
            "config.json", config["rope_scaling"],
        )  # fmt: skip
    if architecture.config.tie_word_embeddings and not fit.architecture.config.tie_word_embeddings:
        yield Finding(
            "head-of-its-own",
            UserError(
                "config.json says that the head is the embedding, and {path} holds another head, which is used",
                path=checkpoint.path, hint="set tie_word_embeddings to false",
            ),
            "config.json", True, "note",
        )  # fmt: skip
    if (method := stale_quantisation(checkpoint)) is not None:
        yield Finding(
            "quantisation-stale",
            UserError(
                "config.json tells of weights quantised by {method}, and they are plain numbers: they are used as such",
                method=method, hint="take quantization_config out",
            ),
            "config.json", method, "note",
        )  # fmt: skip
    if (method := quantised_by(checkpoint)) is not None:
        yield Finding(
            "quantised-twice",
            UserError(
                "the weights are quantised by {method}: they are taken apart once and packed anew, so that q8 adds "
                "little to what they have lost, and q4 about half as much again", method=method,
                hint="where there is room, take the original model",
            ),
            "config.json", method, "note",
        )  # fmt: skip
    if fit.architecture.text_only:
        yield Finding(
            "text-part",
            UserError(
                "{path}: only the text part of this model is used; {count} tensors of its other parts are left out",
                path=checkpoint.path, count=len(fit.spare), hint="images and sound are not read",
            ),
            "config.json", config.get("model_type"), "note",
        )  # fmt: skip
    elif fit.spare:
        yield Finding(
            "tensors-extra",
            UserError(
                "{path}: {count} tensors have no place in this model and are left out, the first is {name}",
                path=checkpoint.path, count=len(fit.spare), name=fit.spare[0],
                hint="check that config.json belongs to these weights",
            ),
            "config.json", fit.spare[0],
        )  # fmt: skip
