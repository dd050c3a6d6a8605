"""Small language models on an ordinary PC: load one, let it write, teach it.

    import soban
    model = soban.load()                                    # the bundled story model, or a folder, or a .bin
    print(model.generate("Once upon a time", max_new_tokens=80, seed=7))
    for piece in model.stream("옛날 옛적에"):
        print(piece, end="", flush=True)
    talk = soban.Dialogue(model, system="Answer in one sentence.")
    print(talk.say("Who was Lily?"))
    soban.learn.prepare("stories/", out="data")             # text to training data, and that to a model of its own
    soban.learn.train("data", "my-model", minutes=30, progress=print)

`help(soban.Model)` tells what a model can do, `help(soban.Sampling)` how its words are chosen.
"""

TYPE_CHECKING = False  # what type checkers take for true; importing typing would take most of the time here
if TYPE_CHECKING:
    from soban import learn, serve
    from soban.base.errors import UserError
    from soban.engine.sampling import Sampling
    from soban.model import Model, load
    from soban.talk.answer import Answer
    from soban.talk.dialogue import Dialogue

__all__ = ["Answer", "Dialogue", "Model", "Sampling", "UserError", "learn", "load", "serve"]

_HOMES = {
    "__version__": "soban.base.version",
    "Answer": "soban.talk.answer",
    "Dialogue": "soban.talk.dialogue",
    "Model": "soban.model",
    "Sampling": "soban.engine.sampling",
    "UserError": "soban.base.errors",
    "load": "soban.model",
}


def __getattr__(name: str) -> object:
    """Imports the public names when they are first used, so that `import soban` and `soban --help` cost nothing."""
    import importlib

    if name in ("learn", "serve"):
        return importlib.import_module(f"soban.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'soban' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), "VERSION" if name == "__version__" else name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
