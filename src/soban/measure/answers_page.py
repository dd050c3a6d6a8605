"""A page of answers side by side, to be judged blind: one HTML file that needs nothing else."""

import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from soban.measure.compare import Contestant, Example
from soban.messages import language, translate

PAGE = Path(__file__).resolve().parents[1] / "assets" / "answers.html"


def answers_page(
    title: str, examples: Sequence[Example], contestants: Sequence[Contestant], rows: Sequence[Sequence[str]]
) -> str:
    """The page. `rows`: what a table of figures says, its heads first, then a row for each contestant.

    Whose an answer is, and the figures, are seen when the reader asks for them; votes stay in the reader's browser.
    """
    data: dict[str, Any] = {
        "rows": [{"name": one.name, "cells": row} for one, row in zip(contestants, rows[1:], strict=True)],
        "examples": [
            {
                "question": example.question, "wanted": example.wanted,
                "answers": [{"text": answer.text, "chrf": answer.scores["chrf"]} for answer in answers],
            }
            for example, *answers in zip(examples, *(one.answers for one in contestants), strict=True)
        ],
        "words": _words() | {"columns": rows[0]},
    }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False)
    data["key"] = "soban-votes-" + hashlib.sha256(text.encode()).hexdigest()[:16]
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        lang=language(), title=html.escape(title), data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    )


def _words() -> dict[str, str]:
    return {
        "place": translate("{n} of {all}", n="{n}", all="{all}"), "asked": translate("asked"),
        "answers": translate("answers"), "wanted": translate("the answer in the data"),
        "best": translate("this is the best"), "none": translate("none is better"), "back": translate("back"),
        "next": translate("next"), "reveal": translate("whose are they?"), "hide": translate("hide the names"),
        "save": translate("save the votes"), "votes": translate("votes"), "nothing": translate("(nothing)"),
        "keys": translate(
            "Keys: arrows for the next and the one before, 1 to 9 for the best answer from the left, 0 for none. Votes "
            "stay in this browser."
        ),
    }  # fmt: skip
