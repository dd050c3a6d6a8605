"""A name or a path to a model that is ready to write."""

from collections.abc import Callable
from pathlib import Path

from soban.base.border import crossing
from soban.base.errors import UserError
from soban.base.system import MOST_THREADS
from soban.loading import custom
from soban.loading.loaded import load_files
from soban.model.chatting import Model


def load(
    name_or_path: str | Path | None = None,
    *,
    dtype: str = "auto",
    context: int | None = None,
    tokenizer: str | Path | None = None,
    force: bool = False,
    cache_dtype: str = "auto",
    threads: int | None = None,
    users: int | None = 1,
    adapter: str | Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Model:
    """A model, ready to write.

    `name_or_path`: a Hugging Face folder, a llama2.c .bin, or None for the bundled story model. `dtype`: "f32"
    (weights as stored), "bf16", "gguf" (the blocks of a GGUF file as they are), "q8", "q4", or "auto". `context`:
    tokens that a conversation may have, at most the model's own limit. `tokenizer`: a tokenizer.bin for a .bin that has
    none beside it. `force`: load even if memory seems too short. `cache_dtype`: how the keys and values of past tokens
    are kept: "f32", "bf16", "int8" (half the memory of bf16, and quicker in long contexts), or "auto" (f32 beside f32
    weights, else bf16). `threads`: how many compute; None: SOBAN_THREADS, or one for each fast core. `users`: how many
    texts that fill the context the cache has room for at once, 1 to 64, or None for as many as a quarter of the free
    memory holds; others wait. `adapter`: a folder with a LoRA adapter that peft wrote, see `Model.adapted`. `progress`
    is called with the share that is done, 0 to 1, while weights are packed: once for each model and dtype.
    Raises UserError with one line that says what is wrong and what to do.
    """
    if name_or_path is not None and (own := custom.described(name_or_path)) is not None:
        base = None if own.modelfile.base == custom.BUNDLED else own.modelfile.base
        model = load(
            base, dtype=dtype, context=context or own.modelfile.context, tokenizer=tokenizer, force=force,
            cache_dtype=cache_dtype, threads=threads, users=users, progress=progress,
        ).customised(own.modelfile)  # fmt: skip
        return model if adapter is None else model.adapted(adapter)
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise UserError(
            "threads={value}: out of range", value=threads, most=MOST_THREADS, hint="give a number from 1 to {most}"
        )
    with crossing(name_or_path):
        loaded = load_files(
            name_or_path, dtype=dtype, tokenizer=tokenizer, force=force, cache_dtype=cache_dtype, context=context,
            progress=progress,
        )  # fmt: skip
        length = loaded.context(context)
        model = Model(loaded, length, threads, loaded.users(length, users))
    return model if adapter is None else model.adapted(adapter)
