"""Errors that are the user's to mend: what is wrong, its value, what to do."""

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
        text = messages.translate(self.template, **self.fields)
        return text if self.hint is None else f"{text}; {messages.translate(self.hint, **self.fields)}"
