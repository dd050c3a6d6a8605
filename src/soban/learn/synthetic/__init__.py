"""A small simulated world, the stories that happen in it, a checker that reads stories back, and talk about them."""

from soban.learn.synthetic.check import Verdict, check
from soban.learn.synthetic.talk import conversation, conversations, small_conversations, sum_conversations
from soban.learn.synthetic.tell import Story, stories, story

__all__ = [
    "Story",
    "Verdict",
    "check",
    "conversation",
    "conversations",
    "small_conversations",
    "stories",
    "story",
    "sum_conversations",
]
