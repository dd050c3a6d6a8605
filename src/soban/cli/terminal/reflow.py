"""A narrower terminal wraps the lines that stand in it; this finds where that has moved the line editor's cursor.

prompt_toolkit erases what it drew from the row where it believes its first line to be. In a terminal that wraps anew,
that line now stands higher, and its beginning would stay on the screen at every change of size.
"""

import os
from collections.abc import Mapping, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.data_structures import Point
from prompt_toolkit.layout.screen import Char, Screen

from soban.cli.terminal import console


def mind_resizing(session: PromptSession[str], environment: Mapping[str, str] = os.environ) -> None:
    """Erase all that was drawn when the size changes, in the terminals that are known to wrap lines anew."""
    if not console.wraps_anew(environment):
        return
    application, renderer = session.app, session.app.renderer
    resized = getattr(application, "_on_resize", None)
    if resized is None or not hasattr(renderer, "_cursor_pos"):
        return  # a prompt_toolkit that is built otherwise; some lines may stay then

    def on_resize() -> None:
        screen = renderer.last_rendered_screen
        if screen is not None:
            columns = renderer.output.get_size().columns
            renderer._cursor_pos = moved(_widths(screen), renderer._cursor_pos, columns)
        resized()

    application._on_resize = on_resize  # type: ignore[method-assign]


def moved(rows: Sequence[Sequence[int]], cursor: Point, columns: int) -> Point:
    """Where the cursor is when no row is wider than `columns`; `rows` are the widths of their characters."""
    above = sum(_wrapped(row, columns)[0] + 1 for row in rows[: cursor.y])
    before, reached = [], 0
    for width in rows[cursor.y] if cursor.y < len(rows) else ():
        if reached >= cursor.x:
            break
        before.append(width)
        reached += width
    before += [1] * (cursor.x - reached)  # blanks behind the text
    extra, x = _wrapped(before, columns)
    return Point(x, above + extra)


def _wrapped(row: Sequence[int], columns: int) -> tuple[int, int]:
    """How many more rows a row takes, and the columns of its last; a wide character is not torn."""
    extra = x = 0
    for width in row:
        if x + width > columns:
            extra, x = extra + 1, 0
        x += width
    return extra, x


def _widths(screen: Screen) -> list[list[int]]:
    """The widths of the characters in each row, without the blanks at its end."""
    rows = []
    for y in range(screen.height):
        cells: Mapping[int, Char] = screen.data_buffer.get(y, {})
        end = max((x for x, cell in cells.items() if cell.char.strip()), default=-1) + 1
        rows.append([cells[x].width if x in cells else 1 for x in range(end)])
    return rows
