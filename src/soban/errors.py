"""Errors that are the user's to mend: what is wrong, its value, what to do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from soban import messages


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
        problem = messages.translate(self.template, **self.fields)
        if self.hint is None:
            return problem
        return messages.translate(
            "{problem}; {remedy}", problem=problem, remedy=messages.translate(self.hint, **self.fields)
        )


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
        given = self.error.fields.items()  # numbers may be written in a format that texts have not
        fields = {name: value if isinstance(value, int | float) else clean(str(value)) for name, value in given}
        error = UserError(self.error.template, hint=self.error.hint, **fields)
        value = clean(self.value) if isinstance(self.value, str) else self.value
        return replace(self, error=error, file=clean(self.file), value=value)

    def as_json(self) -> dict[str, object]:
        """All of it in plain values."""
        return {
            "code": self.code, "level": self.level, "file": self.file, "value": self.value, "problem": self.problem,
            "remedy": self.remedy,
        }  # fmt: skip
