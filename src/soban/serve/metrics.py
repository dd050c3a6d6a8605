"""Figures about the requests, for Prometheus: counts, tokens, seconds, and what is going on at the moment."""

from collections import Counter

from soban.serve.guard import Record
from soban.serve.pool import Pool

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds


class Metrics:
    """Counts what it is told; `text` writes it in Prometheus' exposition format."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.prompt_tokens: Counter[str] = Counter()
        self.new_tokens: Counter[str] = Counter()
        self.within: Counter[float] = Counter()  # requests that took at most so long
        self.seconds, self.count = 0.0, 0

    def note(self, record: Record) -> None:
        """One request that has ended."""
        self.requests[record.route, record.status] += 1
        if record.model:
            self.prompt_tokens[record.model] += record.prompt_tokens
            self.new_tokens[record.model] += record.new_tokens
            self.seconds += record.seconds
            self.count += 1
            for bound in BOUNDS:
                self.within[bound] += record.seconds <= bound

    def text(self, pool: Pool) -> str:
        """All figures, each with what it means."""
        lines: list[str] = []

        def family(name: str, kind: str, about: str, values: list[tuple[str, float]]) -> None:
            lines.extend([f"# HELP soban_{name} {about}", f"# TYPE soban_{name} {kind}"])
            lines.extend(f"soban_{name}{labels} {value:g}" for labels, value in values)

        family(
            "requests_total", "counter", "Requests by route and status.",
            [(f'{{route="{_quoted(route)}",status="{status}"}}', n) for (route, status), n in self.requests.items()],
        )  # fmt: skip
        for name, about, counts in (
            ("prompt_tokens_total", "Tokens of prompts.", self.prompt_tokens),
            ("generated_tokens_total", "Tokens that were written.", self.new_tokens),
        ):
            family(name, "counter", about, [(f'{{model="{_quoted(m)}"}}', n) for m, n in counts.items()])
        lines += [
            "# HELP soban_request_seconds Duration of requests to a model.",
            "# TYPE soban_request_seconds histogram",
        ]
        lines += [f'soban_request_seconds_bucket{{le="{bound:g}"}} {self.within[bound]}' for bound in BOUNDS]
        lines += [
            f'soban_request_seconds_bucket{{le="+Inf"}} {self.count}', f"soban_request_seconds_sum {self.seconds:g}",
            f"soban_request_seconds_count {self.count}",
        ]  # fmt: skip
        here = [(f'{{model="{_quoted(name)}"}}', base) for name, base in pool.bases.items()]
        family(
            "requests_running", "gauge", "Requests that are being answered or wait.",
            [(labels, base.pump.count) for labels, base in here],
        )  # fmt: skip
        family(
            "cache_blocks_free", "gauge", "Blocks of the key-value cache that nobody uses.",
            [(labels, base.model.engine.blocks.free) for labels, base in here if base.model.writes],
        )  # fmt: skip
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
