"""`soban train`: teach a small model from text."""

from soban.base import system
from soban.learn.train import train
from soban.learn.training.options import TrainOptions

OPTIONS = TrainOptions
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
        system.give_way()
    return train(options)
