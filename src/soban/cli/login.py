"""`soban login`: an access token of the hub, checked and kept."""

import getpass
import os
import sys
from dataclasses import dataclass, field

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.hub import access, place
from soban.messages import translate

EXAMPLES = """\
  soban login
  soban login --token-stdin < token.txt
"""
MOST = 10_000  # bytes of stdin that are read


@dataclass(frozen=True)
class LoginOptions:
    """Keep an access token of the hub, for models whose makers want their terms accepted first.

    The token lies where all tools of the hub look for it, readable by you only; it is shown nowhere.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True})  # to refuse them without showing them
    token_stdin: bool = field(default=False, metadata={"help": "read the token from stdin"})


OPTIONS = LoginOptions


def call(options: LoginOptions) -> int:
    """Asks, checks, keeps. 0 also where the token may not read gated models, which is said."""
    if options.words:
        raise UserError(
            "the token is not given on the command line, where it is kept in the shell's history",
            hint="run soban login alone and paste it when asked, or use --token-stdin",
        )  # fmt: skip
    token = access.checked(_piped() if options.token_stdin else _typed())
    identity = access.identify(token, typed=True)
    access.save(token)
    kinds = {
        "read": translate("a token to read"), "write": translate("a token to read and write"),
        "fineGrained": translate("a fine-grained token"),
    }  # fmt: skip
    console.tell(
        translate(
            "logged in as {account} with {kind} ({token}), kept in {path}", account=console.shortened(identity.account),
            kind=kinds.get(identity.role, identity.role), token=console.shortened(identity.token),
            path=place.token_file(),
        )
    )  # fmt: skip
    if identity.reads_gated:
        console.tell(translate("it may read gated models whose terms this account has accepted"))
    else:
        console.tell(
            translate(
                "it may not read gated models, such as Gemma and Llama: for those open {page}, edit the token, tick "
                '"{scope}" and save', page=access.tokens_page(), scope=access.SCOPE,
            )
        )  # fmt: skip
    if os.environ.get("HF_TOKEN") and os.environ["HF_TOKEN"].strip() != token:
        console.tell(translate("but HF_TOKEN is set to another token, and goes before this one: unset it"))
    return 0


def _typed() -> str:
    """The token from the keyboard, without an echo, after an explanation."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError("there is nobody to ask for a token", hint="give it by soban login --token-stdin < FILE")
    for line in (
        translate("Some models are given only to those who accept their makers' terms. That takes two steps:"),
        translate(
            "1. On the model's page, such as {page}, log in and accept the terms (an account costs nothing).",
            page=f"{place.endpoint()}/google/gemma-2-2b-it",
        ),
        translate('2. On {page} make a token of the kind "Read", and copy it.', page=access.tokens_page()),
    ):
        console.tell(line)
    try:
        return getpass.getpass(translate("Token (it is not shown): "), stream=sys.stderr)
    except EOFError:
        raise KeyboardInterrupt from None


def _piped() -> str:
    data = sys.stdin.buffer.read(MOST) if sys.stdin is not None else b""
    return data.decode("utf-8", "replace").removeprefix("\ufeff")
