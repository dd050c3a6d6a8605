"""`soban bench`: the table of a PC and a model, to be read or shared."""

from pathlib import Path

from soban.base.border import reason
from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.interrupt import cancelling
from soban.measure import report
from soban.measure.bench import BenchOptions, bench
from soban.ops.native import Cancelled

INTERRUPTED = 130
OPTIONS = BenchOptions
EXAMPLES = """\
  soban bench                                                  this PC with the bundled model
  soban bench path/to/gemma-2-2b-it --dtype q4 --out my-pc.json
  soban bench path/to/model --format markdown
  soban bench --compare my-pc.json office.json --format markdown
"""


def call(options: BenchOptions) -> int:
    """Writes the table to stdout, or into a file. 130 if Ctrl-C ended it, and then nothing is written."""
    format = options.format or report.ENDINGS.get(Path(options.out or "").suffix.lower(), "text")
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise UserError("{path}: there is no such folder", path=Path(options.out).parent, hint="make it first")
    if options.compare:
        reports = [one for path in (*options.compare, *options.words) for one in report.read(path)]
    else:
        with console.Status(False) as status:
            try:
                reports = [bench(options, status.show, lambda model: cancelling(lambda: model.runner.cancel.fill(1)))]
            except Cancelled:
                return INTERRUPTED
    text = report.write(reports, format)
    if options.out is None:
        console.write(text)
        return 0
    try:
        Path(options.out).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(
            "{path}: {reason}", path=options.out, reason=reason(error), hint="write to another place"
        ) from None
    return 0
