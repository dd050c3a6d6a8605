"""Teaching: text to training data, training data to a model, and examples to an adapter of one that is there.

    import soban.learn
    soban.learn.prepare("notes/", out="data")
    soban.learn.train("data", out="model", preset="1m", minutes=30, progress=print)
    soban.learn.tune("pairs.jsonl", out="adapter", model="gemma2:2b", progress=print)

torch is imported when a training is begun, and not before.
"""

TYPE_CHECKING = False  # what type checkers take for true; importing typing would take most of the time here
if TYPE_CHECKING:
    from soban.learn.api import forecast, prepare, train, tune, tune_forecast
    from soban.learn.data.prepare import TrainingData
    from soban.learn.training.events import Begin, Event, Measurement, Note, NotSaved, Saved, Step
    from soban.learn.training.session import Outlook, Training
    from soban.learn.tuning.session import TuneOutlook, Tuning

__all__ = [
    "Begin",
    "Event",
    "Measurement",
    "NotSaved",
    "Note",
    "Outlook",
    "Saved",
    "Step",
    "Training",
    "TrainingData",
    "TuneOutlook",
    "Tuning",
    "forecast",
    "prepare",
    "train",
    "tune",
    "tune_forecast",
]

_HOMES = {
    **dict.fromkeys(("forecast", "prepare", "train", "tune", "tune_forecast"), "soban.learn.api"),
    **dict.fromkeys(
        ("Begin", "Event", "Measurement", "Note", "NotSaved", "Saved", "Step"), "soban.learn.training.events"
    ),
    **dict.fromkeys(("Outlook", "Training"), "soban.learn.training.session"),
    **dict.fromkeys(("TuneOutlook", "Tuning"), "soban.learn.tuning.session"),
    "TrainingData": "soban.learn.data.prepare",
}


def __getattr__(name: str) -> object:
    """Imports the public names when they are first used: `soban.learn.synthetic` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'soban.learn' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
