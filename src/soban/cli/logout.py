"""`soban logout`: the access token is deleted from this PC."""

import os
from dataclasses import dataclass

from soban.cli.terminal import console
from soban.hub import access
from soban.messages import translate

EXAMPLES = """\
  soban logout
"""


@dataclass(frozen=True)
class LogoutOptions:
    """Delete the access token from this PC. On the hub it stays valid until it is deleted there, too."""


OPTIONS = LogoutOptions


def call(options: LogoutOptions) -> int:
    """Deletes it, and says where it still is."""
    if access.forget():
        console.tell(
            translate("the token is deleted from this PC; to make it invalid delete it on {page}, too",
                      page=access.tokens_page())
        )  # fmt: skip
    else:
        console.tell(translate("no token was kept on this PC"))
    if os.environ.get("HF_TOKEN"):
        console.tell(translate("HF_TOKEN still holds a token: unset it"))
    return 0
