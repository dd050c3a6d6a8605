"""`soban train`: teach a small model from text."""

import os

from soban.learn.train import train
from soban.learn.training.options import TrainOptions

OPTIONS = TrainOptions
LOW = 10  # of niceness, 0 to 19
EXAMPLES = """\
  soban data stories/ --out data/
  soban train --data data/ --out my-model --forecast
  soban train --data data/ --out my-model --pause-on battery,load
  soban train --data data/ --out my-model --resume
  soban run my-model "Once upon a time"
"""


def call(options: TrainOptions) -> int:
    """Trains, and leaves the model in the folder."""
    if options.priority == "low":
        _give_way()
    return train(options)


def _give_way() -> None:
    """Other programs get the processor first. A priority that was set from outside stays."""
    if os.name == "posix":
        if os.nice(0) == 0:
            os.nice(LOW)
        return
    try:
        import psutil
    except ImportError:
        return  # a train command without it only runs at the usual priority
    own = psutil.Process()
    if own.nice() == psutil.NORMAL_PRIORITY_CLASS:
        own.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
