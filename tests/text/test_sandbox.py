"""Hostile chat templates end soon and small, with one line; honest ones render as transformers renders them."""

# ruff: noqa: E501 - templates read best in one line each

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.chat.limits import MAX_SECONDS
from soban.text.chat.template import ChatTemplate, encode_chat
from soban.text.tokenizers.tokenizer import load_tokenizer
from tests.text.long_templates import LONG

TURN = [{"role": "user", "content": "hello"}]

HOSTILE = {
    "a nest of loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a nest of filtered loops": "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "a long range": "{{ range(10**9)|list }}",
    "a repeated text": "{{ 'a' * 10**9 }}",
    "a repeated text the other way round": "{{ 10**9 * 'a' }}",
    "a repeated list": "{{ ([1] * 10**9)|length }}",
    "a huge power": "{{ 10**(10**10) }}",
    "a tower of products": "{% set n = namespace(x=9**99) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "a doubled text": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a doubled text by tilde": "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a doubled list": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a list of itself": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "a dict of itself": "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    "a chain of namespaces": (
        "{% set n = namespace(x=namespace(a=1)) %}{% for i in range(60) %}{% set m = namespace() %}{% set m.a = n.x %}"
        "{% set m.b = n.x %}{% set n.x = m %}{% endfor %}{{ n.x }}"
    ),
    "a block of captured text": "{% set x %}{% for i in range(99999) %}" + "x" * 5000 + "{% endfor %}{% endset %}",
    "captured output": (
        "{% set s = 'x' * 999999 %}{% set x %}{% for i in range(9999) %}{{ s }}{% endfor %}{% endset %}"
    ),
    "a long output": "{% for i in range(9999) %}" + "x" * 5000 + "{% endfor %}",
    "a wide centre": "{{ 'a'|center(10**9) }}",
    "a wide method": "{{ 'a'.center(10**9) }}",
    "wide zeros": "{{ 'a'.zfill(10**9) }}",
    "a wide indent": "{{ 'a\nb'|indent(10**9) }}",
    "a wide format": "{{ '%999999999d' % 1 }}",
    "a starred format": "{{ '%*d' % (999999999, 1) }}",
    "a wide format filter": "{{ '%999999999d'|format(1) }}",
    "a wide format method": "{{ '{:999999999}'.format(1) }}",
    "a computed width": "{{ '{:{}}'.format(1, 10**9) }}",
    "a fertile replacement": "{{ ('a' * 99999)|replace('a', 'a' * 99999) }}",
    "a fertile replacement method": "{{ ('a' * 99999).replace('', 'a' * 99999) }}",
    "a long join": "{{ range(99999)|join('a' * 99999) }}",
    "a long join method": "{{ ('a' * 99999).join('b' * 99999) }}",
    "a wide json": "{{ [[[[1]]]]|tojson(indent=10**9) }}",
    "long batches": "{{ [1]|batch(10**9, 0)|list }}",
    "many slices": "{{ [1]|slice(10**9)|list }}",
    "a quadratic sum": "{{ range(99999)|map('list')|sum(start=[]) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro of two branches": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a recursive loop": "{% for x in [[[[[[]]]]]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "bytes": "{{ 'a'.encode().center(10**9) }}",
    "numbers' methods": "{{ (1).to_bytes(10**9, 'little') }}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "deep loops": "{% for a in [1] %}" * 300 + "{% endfor %}" * 300,
    "a long source": "x" * 10_000_000,
    "many words": "{{ ('a ' * 1999999).split()|length }}",
    "lorem ipsum": "{{ lipsum(n=10**6) }}",
    "Python's insides": "{{ ''.__class__.__mro__ }}{{ messages.__class__.__init__.__globals__ }}",
    "a change of its input": "{{ messages.append(1) }}",
    "another file": "{% include '/etc/passwd' %}",
    "many wide numbers": "{{ ('%9999d' * 40000)|format(*range(40000)|list) }}",
    "one number written often": "{{ ('%(a)9999d' * 40000)|format(a=1) }}",
    "a long date": "{{ strftime_now('%c' * 1999999) }}",
    "dates without end": "{% for i in range(99999) %}{{ strftime_now('%c' * 99)|length }}{% endfor %}",
    "many words in a title": "{{ ('ab c ' * 499999)|title|length }}",
    "sorting without end": "{% for i in range(9999) %}{{ range(99999)|sort|length }}{% endfor %}",
    "searching without end": "{% set s = 'a' * 1999999 %}{% for i in range(99999) %}{{ s.count('ab') }}{% endfor %}",
    "kept ends of a text": (
        "{% set a = '가' * 1999999 %}{% set n = namespace(x=[]) %}{% for i in range(1000) %}{% set n.x = n.x + [a[i:]] %}{% endfor %}"
    ),
    "kept ends of a list": (
        "{% set a = range(99999)|list %}{% set n = namespace(x=[]) %}{% for i in range(1000) %}{% set n.x = n.x + [a[i:]] %}{% endfor %}"
    ),
    "a long row of slices": "{% set a = '가' * 1999999 %}" + "".join(f"{{% set v{i} = a[{i}:] %}}" for i in range(60)),
    "an escaped text": "{{ ('<' * 3999999)|e|length }}",
    "an encoded text": "{{ ('가' * 1999999)|urlencode|length }}",
    "a deep list as json": "{% set n = namespace(x=[1]) %}{% for i in range(990) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x|tojson }}",
    "an unknown filter": "{{ 1|nothing }}",
    "half a tag": "{{ messages[0",
    "many tags": "{{a}}" * 39_999,
    "many names": "{{ " + "a~" * 90_000 + "a }}",
}


def costs(seconds: float, templates: dict[str, str]) -> dict[str, Any]:
    """What each template costs where one rendering has so much time: seconds, kilobytes, and what is said of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", COST, str(seconds)], input=json.dumps(templates), capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wrong(limit: float, seconds: float) -> dict[str, Any]:
    """Those that took longer both times, or more than 100 megabytes, or were not told in one line."""
    templates = HOSTILE | LONG
    assert len(templates) > 113
    for _ in range(2):  # once more those that a neighbour may have slowed down
        amiss = {
            name: (took, kilobytes, said)
            for name, (took, kilobytes, said) in costs(limit, templates).items()
            if took > seconds or not said or "\n" in said or (kilobytes or 0) > 100_000
        }
        templates = {name: templates[name] for name in amiss}
    return amiss


def test_a_hostile_or_long_template_ends_soon_and_small() -> None:
    assert wrong(0.05, 0.8) == {}  # what is done without a look at the clock, and what a neighbour may add


@pytest.mark.slow
def test_a_hostile_or_long_template_ends_within_a_second_and_100_megabytes() -> None:
    assert wrong(MAX_SECONDS, 1.3) == {}


COST = """
import json, sys, time
from soban.base.errors import UserError
from soban.text.chat import limits
from soban.text.chat.template import ChatTemplate

limits.MAX_SECONDS = float(sys.argv[1])
turn = [{"role": "user", "content": "hello"}]
ChatTemplate("{{ messages }}", {}).render(turn)  # jinja is imported

def kilobytes(name):
    if not sys.platform.startswith("linux"):
        return None
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

cost = {}
for name, source in json.load(sys.stdin).items():
    template, said = ChatTemplate(source, {}), None
    if sys.platform.startswith("linux"):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the high-water mark begins anew
    before, started = kilobytes("VmRSS"), time.thread_time()
    try:
        template.render(turn)
    except UserError as error:
        said = str(error)
    cost[name] = time.thread_time() - started, before and kilobytes("VmHWM") - before, said
print(json.dumps(cost))
"""

ESCAPES = {
    "a filtered attribute": "{{ ''|attr('__class__') }}",
    "a mapped attribute": "{{ [messages]|map(attribute='__class__')|list }}",
    "a formatted attribute": "{{ '{0.__class__}'.format(messages) }}",
    "a formatted attribute of a function": "{{ '{0.__init__.__globals__}'.format(raise_exception) }}",
    "a formatted map": "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "a subscript": "{{ ''['__class__'] }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "code": "{{ strftime_now.__code__ }}",
    "a closure": "{{ strftime_now.__closure__ }}",
    "cycler": "{{ cycler.__init__.__globals__.os }}",
    "joiner": "{{ joiner.__init__.__globals__.os }}",
    "namespace": "{{ namespace.__init__.__globals__.os }}",
    "the template": "{{ self._TemplateReference__context }}",
    "the loop": "{% for a in [1] %}{{ loop._iterable }}{% endfor %}",
    "a macro": "{% macro f() %}{% endmacro %}{{ f._func }}{{ f._environment }}",
    "a caller": "{% macro f() %}{{ caller.__globals__ }}{% endmacro %}{% call f() %}{% endcall %}",
    "what is not there": "{{ nothing._undefined_exception }}",
    "a generator": "{{ (messages|map('upper')).gi_frame }}",
    "the environment": "{{ environment.budget }}",
    "a file": "{% import '/etc/passwd' as x %}{{ x }}",
    "another template": "{% extends '/etc/passwd' %}",
    "a change of a list": "{{ messages.append(1) }}",
    "a change of a message": "{{ messages[0].update({'content': 'x'}) }}",
    "a changed message": "{% set messages[0].content = 'x' %}",
}


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES.keys())
def test_nothing_but_the_conversation_can_be_reached(source: str) -> None:
    turn = [{"role": "user", "content": "hello"}]
    try:
        text = ChatTemplate(source, {}).render(turn)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert text.strip("[]") in ("", "Undefined")
    assert turn == TURN


def test_all_renderings_of_a_conversation_share_one_second(
    byte_level: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(byte_level(), {})
    source = (
        "{% for i in range(20) %}{% endfor %}{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    )
    messages = [{"role": role, "content": "x</think> y"} for role in ("system", "user", "assistant")]
    for step, fits in ((0.01, True), (0.2, False)):  # seconds that pass from one look at the clock to the next
        seconds = itertools.count(0, step)
        for clock in ("thread_time", "perf_counter"):
            monkeypatch.setattr(time, clock, lambda seconds=seconds: next(seconds))
        if fits:
            assert encode_chat(tokenizer, ChatTemplate(source, {}), messages)
            continue
        ChatTemplate(source, {}).render(messages)  # once, there is time
        with pytest.raises(UserError, match="too long"):
            encode_chat(tokenizer, ChatTemplate(source, {}), messages)


def test_a_template_that_failed_once_renders_the_next_conversation() -> None:
    template = ChatTemplate("{{ 'a' * messages[0].content|length }}", {})
    with pytest.raises(UserError):
        template.render([{"role": "user", "content": "x" * 5_000_000}])
    assert template.render(TURN) == "aaaaa"


HONEST = {
    "escapes": "{{ messages[0].content ~ '\"<&>' }}{{ [1, none, true, messages[0]]|tojson }}{{ messages|tojson(indent=2) }}",
    "loops": "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m['content'] | trim }}{% endfor %}{% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% else %}none{% endfor %}",
    "generation": "{% for m in messages %}\n  {% generation %}\n {{- m.content + eos_token -}} {% endgeneration %}\n\n{% endfor %}x",
    "numbers": "{{ 7 % 3 }}{{ 2 ** 10 }}{{ 3 * 'ab' }}{{ '%s-%05.1f' % ('a', 1.5) }}{{ '{:>5}|{}'.format('a', 2) }}{{ 1 / 4 }}",
    "namespaces": "{% set ns = namespace(a=[], s='') %}{% for m in messages %}{% set ns.a = ns.a + [m.role] %}{% set ns.s = ns.s ~ m.role %}"
    "{% endfor %}{{ ns.a }}{{ ns.s }}{{ ns.a|join(', ') }}{{ ns.a|unique|list }}",
    "macros": "{% macro f(x, y=2) -%} {{ x }}{{ y }}{{ caller() if caller else '' }} {%- endmacro %}{{ f(1) }}{% call f(3) %}z{% endcall %}",
    "filters": "{{ 'a\nb'|indent(2, true) }}{{ ' x '|center(9) }}{{ 'aXa'|replace('X', '-') }}{{ [3,1]|sort|map('string')|join }}"
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ messages|map(attribute='role')|list }}{{ 'x'|e }}{{ '<'|e }}",
    "tests": "{{ tools is none }}{{ documents is defined }}{{ nothing is defined }}{{ nothing }}{{ messages is sequence }}{{ 'a' in 'ab' }}"
    "{{ (1, 2) == (1, 2) }}{{ messages[0] == messages[0] }}{{ [1] in [[1]] }}{{ none }}{{ messages[-1:][0].content[::-1] }}",
    "methods": "{{ 'a,b'.split(',') }}{{ ' x'.strip() }}{{ 'ab'.startswith('a') }}{{ 'Ab'.upper() }}{{ messages[0].get('role') }}"
    "{{ messages[0].items()|list }}{{ 'ab'.replace('b', 'c') }}{{ ','.join(['a', 'b']) }}{{ 'a\nb'.splitlines() }}",
    "a tree": "{% for x in [[1, [2]], [3]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("source", HONEST.values(), ids=HONEST.keys())
def test_honest_templates_render_as_in_transformers(source: str) -> None:
    templates = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [{"role": "user", "content": ' 안녕 <b>"it\'s"\n '}, {"role": "assistant", "content": "ok\n"}]
    expected = templates.render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=True, eos_token="</s>"
    )[0][0]
    assert ChatTemplate(source, {"eos_token": "</s>"}).render(messages) == expected


def test_a_long_conversation_is_no_abuse(fixtures) -> None:
    words = "가나다 라마바 " * 250
    messages = [{"role": ("user", "assistant")[n % 2], "content": words} for n in range(401)]
    for path in sorted((fixtures / "chat_templates").glob("*.jinja")):
        text = ChatTemplate(path.read_text(encoding="utf-8"), {"bos_token": "<s>"}).render(messages)
        assert text.count(words.strip()) == 401, path.name


def test_what_a_template_refuses_is_said_in_its_own_words() -> None:
    with pytest.raises(UserError, match="only even turns"):
        ChatTemplate("{{ raise_exception('only even\nturns') }}", {}).render(TURN)


def test_messages_reach_a_template_as_plain_data() -> None:
    with pytest.raises(UserError, match="object"):
        ChatTemplate("{{ messages }}", {}).render([{"role": "user", "content": object()}])
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(UserError, match="nested"):
        ChatTemplate("{{ messages }}", {}).render([{"role": "user", "content": deep}])
