"""What generation_config.json says about how tokens are chosen, and what of it is not followed here."""

from collections.abc import Mapping
from typing import Any

from soban.base.errors import UserError
from soban.engine.sampling import Sampling

NAMES = (
    "max_new_tokens", "max_length", "min_new_tokens", "min_length", "do_sample", "temperature", "top_k", "top_p",
    "min_p", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
    "prompt_lookup_num_tokens",
)  # fmt: skip
# Other keys by which transformers 5.23 writes another text, and the values that change nothing, or only its speed.
ALWAYS: Mapping[str, tuple[object, ...]] = {
    "assistant_early_exit": (),
    "cache_implementation": ("dynamic", "dynamic_full", "offloaded", "offloaded_static", "static"),
    "constraints": (),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "max_time": (),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": (),
    "token_healing": (False,),
    "use_mtp": (False,),
    "watermarking_config": (),
}
SAMPLED: Mapping[str, tuple[object, ...]] = {  # those of them that matter only where tokens are drawn
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "top_h": (),
    "typical_p": (1.0,),
}
BEAMS: Mapping[str, tuple[object, ...]] = {  # and only where several beams are searched, of which soban has one
    "diversity_penalty": (0.0,),
    "early_stopping": (False,),
    "length_penalty": (1.0,),
}


def sampling_defaults(config: Mapping[str, Any]) -> Sampling:
    """What generation_config.json says about sampling; a value that cannot be is an error naming the key."""
    values = {name: config[name] for name in NAMES if config.get(name) is not None}
    if (stops := config.get("stop_strings")) is not None:
        values["stop"] = [stops] if isinstance(stops, str) else stops
        if not isinstance(values["stop"], list) or not all(isinstance(stop, str) for stop in values["stop"]):
            raise UserError(
                "generation_config.json: {name} is {value}, where texts belong", name="stop_strings", value=stops,
                hint="correct it in the model's folder",
            )  # fmt: skip
    if values.get("top_k") == -1:  # vLLM's way to say that there is no limit
        values["top_k"] = 0
    try:
        return Sampling(**with_tuples(values), usual=frozenset(values))
    except UserError as error:
        raise UserError(
            "generation_config.json: {problem}", problem=error, hint="correct it in the model's folder"
        ) from None  # fmt: skip


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with tuples for lists, and for an object of biases, as `Sampling` has them."""
    listed = dict(values)
    if isinstance(biases := listed.get("logit_bias"), dict):
        listed["logit_bias"] = list(biases.items())
    return {name: _tuples(value) if isinstance(value, list) else value for name, value in listed.items()}


def _tuples(value: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def unfollowed(config: Mapping[str, Any], sampled: bool) -> list[str]:
    """The keys by which transformers writes another text than soban does; `sampled`: where tokens are drawn."""
    names = [name for name, neutral in ALWAYS.items() if _says(config, name, neutral)]
    if sampled:
        names += [name for name, neutral in SAMPLED.items() if _says(config, name, neutral)]
    if "num_beams" in names:
        names += [name for name, neutral in BEAMS.items() if _says(config, name, neutral)]
    return sorted(names)


def _says(config: Mapping[str, Any], name: str, neutral: tuple[object, ...]) -> bool:
    return config.get(name) is not None and config[name] not in neutral
