"""Errors that are the user's to mend: what is wrong, its value, what to do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from soban import messages

LONGEST = 1000  # characters of a value: more than any path that people use


class UserError(Exception):
    """A mistake in the input, told in one line and in the user's language.

    `template` is the English text with named fields; it is also the key of its translation.
    `hint` (a template with the same fields) says what to do about it.
    """

    def __init__(self, template: str, *, hint: str | None = None, **fields: object) -> None:
        self.template = template
        self.hint = hint
        self.fields = fields
        super().__init__(template)

    def __str__(self) -> str:
        fields = {name: _short(value) for name, value in self.fields.items()}
        text = messages.translate(self.template, **fields)
        if self.hint is not None:
            remedy = messages.translate(self.hint, **fields)
            text = messages.translate("{problem}; {remedy}", problem=text, remedy=remedy)
        return messages.escaped(text)


def _short(value: object) -> object:
    """A value as it may stand in one line: what a stranger's file holds may be as long as the file."""
    if isinstance(value, int | float):  # which a template may write in a format of its own
        return value
    text = str(value)
    return value if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"


@dataclass(frozen=True, eq=False)
class Finding:
    """Something amiss that stops nothing, told as an error is; `code` names its kind for programs.

    `file` and `value`: where it stands and what stands there. A note is usual, or mended by soban itself.
    """

    code: str
    error: UserError
    file: str = ""
    value: object = None
    level: Literal["warning", "note"] = "warning"

    @property
    def problem(self) -> str:
        """What is amiss, in the user's language."""
        return messages.translate(self.error.template, **self.error.fields)

    @property
    def remedy(self) -> str:
        """What to do about it, in the user's language; "" where nothing is to be done."""
        return "" if self.error.hint is None else messages.translate(self.error.hint, **self.error.fields)

    def cleaned(self, clean: Callable[[str], str]) -> "Finding":
        """The same with every text in it cleaned."""
        items = self.error.fields.items()  # numbers may be written in a format that texts have not
        fields = {name: value if isinstance(value, int | float) else clean(str(value)) for name, value in items}
        error = UserError(self.error.template, hint=self.error.hint, **fields)
        value = clean(self.value) if isinstance(self.value, str) else self.value
        return replace(self, error=error, file=clean(self.file), value=value)

    def as_json(self) -> dict[str, object]:
        """All of it in plain values."""
        return {
            "code": self.code, "level": self.level, "file": self.file, "value": self.value, "problem": self.problem,
            "remedy": self.remedy,
        }  # fmt: skip
