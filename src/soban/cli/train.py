"""`soban train`: teach a small model from text."""

from soban.learn.train import TrainOptions, train

OPTIONS = TrainOptions
EXAMPLES = """\
  soban train --out my-model --minutes 30
  soban train --out my-model --data stories.txt --data more.jsonl --minutes 10
  soban run my-model "Once upon a time"
"""


def call(options: TrainOptions) -> int:
    """Trains, and leaves the model in the folder."""
    train(options)
    return 0
