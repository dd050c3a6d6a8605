"""`soban ps`: the servers that run on this PC, and the models that they have in memory."""

import json
from dataclasses import dataclass, field

from soban.base.units import of_bytes
from soban.cli.terminal import console
from soban.cli.terminal.table import table
from soban.messages import translate

EXAMPLES = """\
  soban ps
  soban ps --json
"""


@dataclass(frozen=True)
class PsOptions:
    """Show the servers that run on this PC, and which models each has in memory."""

    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = PsOptions


def call(options: PsOptions) -> int:
    """Writes a line for each model of each server to stdout."""
    from soban.serve.presence import servers

    answers = [(one, one.ask("/api/ps")["models"]) for one in servers()]
    if options.json:
        report = [
            {"url": one.url, "process": one.process, "started": one.started, "models": models}
            for one, models in answers
        ]
        console.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
        return 0
    if not answers:
        console.tell(translate("no server is running here: soban serve starts one"))
        return 0
    rows = [(translate("server"), translate("model"), translate("memory"), translate("requests"), translate("until"))]
    for one, models in answers:
        for model in models or [{}]:
            until = model.get("expires_at", "")
            rows.append(
                (
                    one.url, model.get("name", ""), of_bytes(model["size"]) if model else "",
                    str(model.get("requests", "")), "" if until.startswith("9999") else until[11:16],
                )
            )  # fmt: skip
    console.write(table(rows, right=(2, 3), giving=1))
    return 0
