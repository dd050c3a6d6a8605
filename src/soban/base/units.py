"""Bytes and seconds, short enough to read."""

from soban.messages import translate


def of_bytes(count: float) -> str:
    """Three digits and a unit of a thousand: 812 B, 4.99 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= 1000
    return f"{_three(count)} TB"


def _three(number: float) -> str:
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def of_seconds(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds, or seconds."""
    whole = round(seconds)
    if whole >= 3600:
        return translate("{hours} h {minutes:02} min", hours=whole // 3600, minutes=whole % 3600 // 60)
    if whole >= 60:
        return translate("{minutes} min {seconds:02} s", minutes=whole // 60, seconds=whole % 60)
    return translate("{seconds} s", seconds=whole)
