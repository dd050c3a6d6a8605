"""`soban pull`: a model from the hub to this PC."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import parse_object
from soban.base.units import of_seconds
from soban.cli.terminal import console
from soban.cli.terminal.sections import one_line
from soban.cli.terminal.transfer import Transfer
from soban.hub import access, download, meant, place, remote, session, store
from soban.hub.names import Repository
from soban.hub.remote import Listing
from soban.messages import translate, warn
from soban.models import FAMILIES

INTERRUPTED = 130
EXAMPLES = """\
  soban pull gemma2:2b
  soban pull google/gemma-2-2b-it                     any model of the hub
  soban pull owner/name@v1.0                          a branch, a tag or a commit
  soban pull owner/name-GGUF:Q4_K_M                   one form of a repository of GGUF files
  soban pull gemma2:2b --cache-dir D:\\models
"""


@dataclass(frozen=True)
class PullOptions:
    """Fetch models to this PC, or bring them up to date. What is here already is not fetched again.

    It can be stopped at any time: the same command goes on from there. The files lie where all tools of the hub
    look for them. Their folder is written to stdout.
    """

    models: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "MODEL ..."})
    cache_dir: str | None = field(
        default=None, metadata={"metavar": "FOLDER", "help": "where to keep them (default: HF_HUB_CACHE)"}
    )
    wait: bool | None = field(
        default=None,
        metadata={
            "help": "wait where the hub wants a token or consent first (default: on a terminal)", "off": "--no-wait",
            "off_help": "do not wait, but say what is missing",
        },
    )  # fmt: skip
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "show no progress"})


OPTIONS = PullOptions


def call(options: PullOptions) -> int:
    """Fetches them one after the other. 130 if Ctrl-C ended it."""
    if not options.models:
        raise UserError(
            "no model is named", hint="name one, as in soban pull gemma2:2b; soban list --catalogue shows some"
        )
    cache = Path(options.cache_dir) if options.cache_dir else None
    wait = sys.stderr is not None and sys.stderr.isatty() if options.wait is None else options.wait
    repositories = [meant.require(name) for name in options.models]
    for repository in repositories:
        try:
            folder = fetch(repository, cache, wait=wait, quiet=options.quiet)
        except KeyboardInterrupt:
            if store.is_begun(repository, cache):
                console.tell(translate("stopped; what has come is kept, and the same command goes on from there"))
            else:
                console.tell(translate("stopped; nothing has come yet"))
            return INTERRUPTED
        console.write(f"{folder}\n")
    return 0


def obstacle(listing: Listing, config: bytes) -> str | None:
    """Why soban could not run a model, as far as config.json tells before the weights are fetched, and where it speaks
    of quantised weights their headers; None where nothing is in the way."""
    from soban.measure import headers
    from soban.models import architecture
    from soban.packing.fitting import fitted

    def read(name: str, start: int, stop: int) -> bytes:
        return remote.read_range(listing.repository, name, start, stop)

    try:
        raw = parse_object(config)
        family = raw.get("model_type")
        if not isinstance(family, str):
            return None  # which is told of the whole folder
        if family not in FAMILIES:
            return translate("it has no engine for {family} models yet", family=one_line(family))
        arch = architecture(raw)
        if "quantization_config" in raw:
            fitted(arch, headers.remote_outline(listing.repository, listing.files, read).checkpoint)
    except UserError as error:
        return str(error)
    except ValueError:
        return None
    return None


def fetch(
    repository: Repository, cache: Path | None = None, *, wait: bool, quiet: bool = False, to_run: bool = False
) -> Path:
    """The folder of the model, its progress shown; waits for the user's token and consent where that is wanted.

    What soban could not run is told before it is fetched, or refused if it is wanted `to_run`. Without a connection
    the copy in the cache is good enough. Raises UserError, KeyboardInterrupt.
    """

    def look(listing: Listing, config: bytes) -> None:
        reason = obstacle(listing, config)
        if reason and to_run:
            raise UserError(
                "{model}: soban cannot run this model: {reason}", model=repository, reason=reason,
                hint="choose another model: soban list --catalogue shows which have one",
            )  # fmt: skip
        if reason:
            line.clear()
            warn("{model}: soban can fetch this model, but not run it: {reason}", model=repository, reason=reason)

    copy = store.complete_folder(repository, cache)
    if copy is not None and place.is_offline():
        return copy
    start = time.monotonic()
    with Transfer(repository.entry.name if repository.entry else repository.id, quiet) as line:
        waited_for = ""
        while True:
            try:
                line.say(translate("asking the hub ..."))
                folder = download.pull(repository, line.show, cache, look)
                break
            except access.AccessError as missing:
                if not wait or str(missing) == waited_for:  # the same again, though the hub says that it is granted
                    raise
                waited_for = str(missing)
                access.wait_until_granted(repository, line.tell)
            except session.NoConnectionError as error:
                if copy is None:
                    raise
                line.clear()
                warn("{problem}; the copy on this PC is used", problem=error)
                return copy
    if not quiet:
        passed = of_seconds(time.monotonic() - start)
        console.tell(
            translate("{model}: here already, and up to date", model=repository)
            if copy == folder
            else translate("{model}: fetched and checked in {time}", model=repository, time=passed)
        )
    return folder
