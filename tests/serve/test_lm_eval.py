"""lm-evaluation-harness asks the server, and finds what its own backend finds with transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ..conftest import FIXTURES
from .conftest import Running, Starter

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (pip install 'lm-eval[api]')")
pytestmark = pytest.mark.slow

TEXTS = [
    ("Once upon a time there was a little", (" girl", " dog", " car named Tim.", "\n\nThe", " boy who loved")),
    ("Tom and his mom went to the park. They saw a big", (" tree.", " dog", " red ball", " banana the", " xylophone")),
    ("Lily was sad because", (" she lost her toy.", " her mom said no.", " the the the", " it")),
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{{ 'assistant:' }}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TinyStories-656K, with a template for conversations."""
    found = FIXTURES / "models" / "TinyStories-656K"
    if not found.is_dir():
        pytest.skip(f"{found} is not there")
    folder = Path(shutil.copytree(found, tmp_path_factory.mktemp("lm-eval") / "stories"))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"chat_template": TEMPLATE}
    path.write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def served(start: Starter, folder: Path) -> Running:
    return start(str(folder))


@pytest.fixture(scope="module")
def judge(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)


def asked(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, n) for n, each in enumerate(arguments)]  # type: ignore[arg-type]


# the harness puts a BOS before prompts of an API where add_bos_token tells it to, of hf as the tokenizer does
@pytest.mark.parametrize("batch", [1, 4])
def test_log_likelihoods_and_choices_are_those_of_transformers(
    served: Running, judge: Any, folder: Path, batch: int
) -> None:
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    ours = LocalCompletionsAPI(
        base_url=f"{served.url}/v1/completions", model="stories", tokenizer=str(folder), batch_size=batch,
        tokenizer_backend="huggingface", max_length=512, add_bos_token=True,
    )  # fmt: skip
    pairs = [(context, choice) for context, choices in TEXTS for choice in choices]
    found, wanted = (lm.loglikelihood(asked("loglikelihood", pairs)) for lm in (ours, judge))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=1e-3)
    place = 0
    for _, choices in TEXTS:
        here = range(place, place + len(choices))
        assert max(here, key=lambda n: found[n][0]) == max(here, key=lambda n: wanted[n][0])
        place += len(choices)
    rolling = [(context + choices[0],) for context, choices in TEXTS]
    found, wanted = (lm.loglikelihood_rolling(asked("loglikelihood_rolling", rolling)) for lm in (ours, judge))
    assert found == pytest.approx(wanted, abs=1e-3)


def test_texts_are_those_of_transformers(served: Running, judge: Any, folder: Path) -> None:
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    ours = LocalCompletionsAPI(
        base_url=f"{served.url}/v1/completions", model="stories", tokenizer=str(folder),
        tokenizer_backend="huggingface", max_length=512, add_bos_token=True,
    )  # fmt: skip
    options = {"until": ["\n", " she"], "max_gen_toks": 30, "do_sample": False, "temperature": 0}
    requests = [(context, options) for context, _ in TEXTS]
    found, wanted = (lm.generate_until(asked("generate_until", requests)) for lm in (ours, judge))
    assert [text.lstrip(" ") for text in found] == wanted  # transformers decodes without the blank of the first word


def test_answers_of_conversations_are_those_of_transformers(served: Running, judge: Any, folder: Path) -> None:
    from lm_eval.models.openai_completions import LocalChatCompletion

    ours = LocalChatCompletion(base_url=f"{served.url}/v1/chat/completions", model="stories")
    options = {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False, "temperature": 0}
    conversations = [[{"role": "user", "content": context}] for context, _ in TEXTS]
    answers = ours.generate_until(
        asked("generate_until", [(ours.apply_chat_template(each), options) for each in conversations])
    )
    wanted = judge.generate_until(
        asked("generate_until", [(judge.apply_chat_template(each), options) for each in conversations])
    )
    assert [answer.strip() for answer in answers] == [answer.strip() for answer in wanted]
