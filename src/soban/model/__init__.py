"""A loaded model: text in, text out.

`loading` makes it. It is one class, told in three files, each of which adds to the one before: what the network makes
of tokens (`scoring`), what it writes after a prompt (`generating`), and conversations (`chatting`).
"""

from soban.model.chatting import Model
from soban.model.loading import load

__all__ = ["Model", "load"]
