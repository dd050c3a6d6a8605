"""`soban train`: teach a small model from text."""

from soban.learn.train import TrainOptions, train

OPTIONS = TrainOptions
EXAMPLES = """\
  soban data stories/ --out data/
  soban train --data data/ --out my-model
  soban train --data data/ --out my-model --resume
  soban run my-model "Once upon a time"
"""


def call(options: TrainOptions) -> int:
    """Trains, and leaves the model in the folder."""
    return train(options)
