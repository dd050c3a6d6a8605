"""Who may ask, by which name, and how much; who leaves frees his place; who comes too many waits for no answer."""

import socket
import threading
import time
from typing import Any

import httpx
import pytest

from soban.serve import keys
from soban.serve.settings import Limits

from .conftest import Running, Starter

CHAT = "/v1/chat/completions"
LONG = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 400, "logit_bias": {"2": -100}, "stream": True,
        "temperature": 1.0, "seed": 1}  # nothing that repeats, so a step for each token  # fmt: skip


def test_a_name_that_was_made_to_point_here_is_refused(server: Running) -> None:
    assert httpx.get(server.url + "/v1/models", headers={"Host": "evil.example"}).status_code == 403
    for name in ("localhost:11435", "127.0.0.1", "[::1]:80"):
        assert httpx.get(server.url + "/v1/models", headers={"Host": name}).status_code == 200


def test_pages_of_other_sites_are_refused_unless_they_were_let_in(start: Starter, server: Running) -> None:
    assert httpx.get(server.url + "/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    assert httpx.get(server.url + "/v1/models", headers={"Origin": "null"}).status_code == 403
    assert httpx.get(server.url + "/v1/models", headers={"Origin": server.url}).status_code == 200
    friend = start("soban", origins=("https://good.example",))
    assert httpx.get(friend.url + "/v1/models", headers={"Origin": "https://good.example"}).status_code == 200


def test_without_a_key_nobody_is_let_in_where_there_are_keys(start: Starter) -> None:
    locked = start("soban", keys={keys.digest("one"): "mina", keys.digest("열쇠"): "jun"})
    for headers, status in (
        ({}, 401), ({"Authorization": "Bearer two"}, 401), ({"Authorization": "Basic one"}, 401),
        ({"Authorization": "Bearer one"}, 200), ({"X-Api-Key": "one"}, 200), ({"authorization": "bearer one"}, 200),
    ):  # fmt: skip
        answer = httpx.get(locked.url + "/v1/models", headers=headers)
        assert answer.status_code == status, headers
    assert httpx.get(locked.url + "/health").status_code == 200
    until = time.monotonic() + 5  # a record is told after its answer
    while len(locked.records) < 7:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert sorted(record.owner for record in locked.records) == [""] * 4 + ["mina"] * 3


def test_texts_of_different_keys_share_no_pages(start: Starter) -> None:
    locked = start("soban", keys={keys.digest("one"): "mina", keys.digest("two"): "jun"})
    message = {"role": "user", "content": "Once upon a time there was " * 20}
    chat = {"messages": [message], "max_tokens": 1, "temperature": 0}

    def ask(key: str) -> tuple[str, int]:
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(locked.url + CHAT, json=chat, headers=headers, timeout=60).json()
        return str(answer["choices"]), answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    text, first = ask("one")
    assert first == 0
    assert ask("one")[1] > 0
    assert ask("two") == (text, 0)
    assert ask("two")[1] > 0 and ask("one")[1] > 0


def test_a_body_that_is_too_long_is_refused_told_or_not(start: Starter) -> None:
    small = start("soban", limits=Limits(body=1000))
    assert httpx.post(small.url + CHAT, content=b"x" * 2000).status_code == 413

    def pieces() -> Any:
        for _ in range(20):
            yield b"x" * 100

    assert httpx.post(small.url + CHAT, content=pieces()).status_code == 413


def test_a_client_that_leaves_frees_its_place(start: Starter, chat_model: Any) -> None:
    slow = start(str(chat_model))
    slow_down(slow)
    with httpx.stream("POST", slow.url + CHAT, json=LONG, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert not slow.idle()
    slow.wait_until_idle(3)
    until = time.monotonic() + 5
    while slow.records[-1].outcome != "left":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_client_that_leaves_while_it_waits_for_a_whole_answer_does_so_too(start: Starter, chat_model: Any) -> None:
    slow = start(str(chat_model))
    slow_down(slow)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(slow.url + CHAT, json={**LONG, "stream": False}, timeout=0.5)
    slow.wait_until_idle(3)


def test_neighbours_of_one_that_leaves_write_what_they_would_alone(server: Running, chat_model: Any) -> None:
    body = {"model": chat_model.name, "messages": [{"role": "user", "content": "b"}], "max_tokens": 120, "seed": 4,
            "temperature": 1.0}  # fmt: skip
    alone = httpx.post(server.url + CHAT, json=body, timeout=60).json()["choices"][0]["message"]["content"]
    answers: list[str] = []

    def ask() -> None:
        answer = httpx.post(server.url + CHAT, json=body, timeout=60).json()
        answers.append(answer["choices"][0]["message"]["content"])

    thread = threading.Thread(target=ask)
    thread.start()
    for _ in range(5):
        with httpx.stream("POST", server.url + CHAT, json=LONG | {"model": chat_model.name}, timeout=30) as answer:
            next(answer.iter_lines())
    thread.join()
    assert answers == [alone]


def slow_down(server: Running) -> None:
    """Loads the server's model, and lets it take 20 ms for each step from then on."""
    httpx.post(server.url + CHAT, json={**LONG, "max_tokens": 1, "stream": False}, timeout=60)
    engine, step = server.model.engine, server.model.engine.step

    def slow() -> Any:
        time.sleep(0.02)
        return step()

    engine.step = slow  # type: ignore[method-assign]


def test_too_many_are_told_when_to_come_again(start: Starter, chat_model: Any) -> None:
    narrow = start(str(chat_model), limits=Limits(waiting=2))
    slow_down(narrow)
    streams = [httpx.stream("POST", narrow.url + CHAT, json=LONG, timeout=30) for _ in range(2)]
    lines = [stream.__enter__().iter_lines() for stream in streams]  # kept: a reader that is gone closes its stream
    for one in lines:
        next(one)
    answer = httpx.post(narrow.url + CHAT, json={**LONG, "stream": False}, timeout=30)
    for stream in streams:
        stream.__exit__(None, None, None)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0


def test_what_takes_too_long_is_ended(start: Starter, chat_model: Any) -> None:
    hasty = start(str(chat_model), limits=Limits(seconds=1.0))
    slow_down(hasty)
    answer = httpx.post(hasty.url + CHAT, json={**LONG, "stream": False}, timeout=60)
    assert answer.status_code == 504, answer.text[:200]
    hasty.wait_until_idle()


def test_a_head_that_does_not_end_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soban.serve.running.PATIENCE", 0.3)
    with socket.create_connection(tuple(server.url.removeprefix("http://").split(":"))) as raw:  # type: ignore[arg-type]
        raw.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localh")
        raw.settimeout(10)
        assert raw.recv(1000) == b"" or True
    assert httpx.get(server.url + "/health").status_code == 200


def test_figures_count_what_was_asked(server: Running) -> None:
    before = httpx.get(server.url + "/metrics").text
    httpx.post(
        server.url + CHAT, json={"model": "soban", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    )
    after = httpx.get(server.url + "/metrics").text

    def count(text: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith('soban_generated_tokens_total{model="soban"}')]
        return float(lines[0].split()[-1]) if lines else 0.0

    assert count(after) == count(before) + 2
