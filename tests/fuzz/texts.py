"""What people and programs write: chat templates, saved conversations, files of benchmarks."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from soban.talk.transcript import read_transcript
from soban.text.chat.template import ChatTemplate
from soban.text.chat.templates import NAMED
from tests.fuzz.changing import changed_json, damaged
from tests.fuzz.formats import Files, Format, Wrong, is_json

CONVERSATIONS = (
    [{"role": "user", "content": "안녕 {{ x }}"}],
    [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ],
    [{"role": "user", "content": ""}],
)
# What templates are made of, whole or not, to be put anywhere into one.
PIECES = (
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{%- ",
    " -%}",
    "{% endfor %}",
    "{% endif %}",
    "{% for m in messages %}",
    "{% if true %}",
    "{% else %}",
    "{% set x = 1 %}",
    "{% set ns = namespace(a=1) %}",
    "{% set ns.a = ns.a * 3 %}",
    "{{ ns.a }}",
    "{{ messages }}",
    "{{ m['role'] }}",
    "{{ m.content | trim }}",
    "{{ messages[0]['content'] | upper }}",
    "{{ x | tojson }}",
    "{{ 9 ** 9 }}",
    "{{ 'a' * 1000000 }}",
    "{{ range(100000) | list }}",
    "{{ [0] * 10 }}",
    "{{ raise_exception('no') }}",
    "{{ loop.index0 }}",
    "{% macro f(a) %}{{ f(a) }}{% endmacro %}",
    "{{ f(1) }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{{ self }}",
    "{{ ''.__class__ }}",
    "{{ messages.__init__ }}",
    "{{ cycler('a', 'b').next() }}",
    "{{ joiner(',')() }}",
    "{{ dict(a=1) }}",
    "{{ lipsum() }}",
    "{{ '%s' % 1 }}",
    "{{ '{}'.format(1) }}",
    "{{ 'a'.join(['b', 'c']) }}",
    "{{ [1, 2] | sum }}",
    "{{ 1 / 0 }}",
    "{{ messages | length }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list }}",
    "{{ strftime_now('%Y') }}",
    "{% generation %}x{% endgeneration %}",
    "{% call f(1) %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% raw %}",
    "{% do x %}",
    "{{ (1, 2) < (1, 'a') }}",
    "{{ 'a' in messages }}",
    "{{ bos_token }}",
    "{{ undefined.x }}",
    "{{ [] | first }}",
    "{{ 1e400 }}",
    "{{ '\\ud800' }}",
    "{{ messages[-1:] }}",
    "{{ messages[::-1] | map(attribute='content') | join }}",
    "{{ none | int }}",
    "{{ '1' | int }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 2 ** 4000 ** 2 }}",
    "{{ -messages }}",
    "{{ 'x' | center(99999) }}",
)
WHOLE = [piece for piece in PIECES if piece.startswith("{{ ") and piece.endswith("}}")]
BORDERS = re.compile(r"(?=\{\{|\{%)|(?<=\}\})|(?<=%\})")


def templates(folder: Path) -> Format:
    from tests.tiny import TEMPLATE

    sources = [named.source for named in NAMED.values()] + [TEMPLATE]

    def make(dice: random.Random) -> Files:
        source = dice.choice(sources)
        for _ in range(dice.choice((1, 1, 2, 3))):
            act = dice.randrange(6)
            at, other = dice.randrange(len(source) + 1), dice.randrange(len(source) + 1)
            if act < 3:
                between = [found.start() for found in BORDERS.finditer(source)] or [0]
                at = at if dice.random() < 0.1 else dice.choice(between)  # of tags, so that most of them stay whole
                source = source[:at] + dice.choice(WHOLE if dice.random() < 0.8 else PIECES) + source[at:]
            elif act == 3:
                first, last = sorted((at, other))
                source = source[:first] + source[min(last, first + 40) :]
            elif act == 4:
                source = source[:at] + source[other : other + 40] + source[at:]
            else:
                return {"template": damaged(dice, source.encode())}
        return {"template": source.encode()}

    def read(place: Path, dice: random.Random) -> None:
        text = (place / "template").read_bytes().decode("utf-8", "replace")
        template = ChatTemplate(text, {"bos_token": "<s>", "eos_token": "</s>"})
        rendered = template.render(dice.choice(CONVERSATIONS), add_generation_prompt=dice.random() < 0.5)
        if not isinstance(rendered, str):
            raise Wrong(str(type(rendered)))

    return Format("chat-template", make, read, lambda files: compiles(files["template"]), {})


def compiles(data: bytes) -> bool:
    """Whether the template's tags are in pairs, as far as counting them tells."""
    return data.count(b"{{") == data.count(b"}}") and data.count(b"{%") == data.count(b"%}")


def transcripts(folder: Path) -> Format:
    saved = {
        "format": "soban conversation 1",
        "dropped": 1,
        "summary": "they spoke",
        "template": "chatml",
        "options": {"temperature": 0.7, "seed": 1},
        "messages": [
            {"role": "system", "content": "짧게"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ],
    }
    sources = [json.dumps(saved), json.dumps(saved["messages"]), json.dumps(saved | {"template": None, "dropped": 0})]

    def make(dice: random.Random) -> Files:
        return {"talk.json": changed_json(dice, dice.choice(sources))}

    def read(place: Path, dice: random.Random) -> None:
        found = read_transcript(place / "talk.json")
        for message in found.messages:
            if message.keys() != {"role", "content"} or not isinstance(message["content"], str):
                raise Wrong(str(message))

    return Format("transcript", make, read, is_json, {})


def reports(folder: Path) -> Format:
    from soban.measure import report

    rate = {"median": 10.0, "low": 9.0, "high": 11.0, "times": 3, "share": 0.5}
    told = {
        "when": "2026-01-01", "soban": "0.1", "threads": 2, "isa": "avx2", "model": "m", "dtype": "q8", "cache": "bf16",
        "weight_bytes": 1000, "body_bits": 8.3, "head_bits": 8.3, "answer_seconds": 1.0, "load_seconds": 0.1,
        "first_token_seconds": 0.2, "characters_per_second": 100.0, "memory": {"anonymous": 10, "mapped": 20},
        "pc": {"cpu": "x", "cores": 2, "memory": 1 << 34, "system": "Linux"}, "prefill": rate | {"tokens": 64},
        "decode": [rate | {"context": 64}, rate | {"context": 1024}],
        "limits": {"multiply_adds": {"avx2": 1e11}, "bandwidth": 1e10},
    }  # fmt: skip
    sources = [json.dumps(told), json.dumps([told, told | {"memory": None, "limits": None}])]

    def make(dice: random.Random) -> Files:
        return {"bench.json": changed_json(dice, dice.choice(sources))}

    def read(place: Path, dice: random.Random) -> None:
        found = report.read(str(place / "bench.json"))
        for format in ("text", "markdown", "csv"):
            report.write(found, format)

    return Format("bench-report", make, read, is_json, {})


FORMATS: dict[str, Callable[[Path], Format]] = {
    "chat-template": templates, "transcript": transcripts, "bench-report": reports,
}  # fmt: skip
