"""`soban plan`: whether a model fits this PC, and how fast it will be."""

import json

from soban.cli.terminal import console, plan_table
from soban.measure.plan import PlanOptions, plan

OPTIONS = PlanOptions
EXAMPLES = """\
  soban plan gemma2:9b                       before a byte of it is fetched
  soban plan path/to/model --context 4096
  soban plan gemma2:2b serve --users 8
  soban plan gemma2:2b tune --json
"""


def call(options: PlanOptions) -> int:
    """Writes the table, or JSON, to stdout."""
    with console.Status(False) as status:
        report = plan(options, status.show)
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n" if options.json else plan_table.text(report)
    console.write(text)
    return 0
