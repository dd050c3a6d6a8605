"""llama2.c's flags mean ours, or are refused with a reason."""

import pytest

from soban.base.errors import UserError
from soban.cli import flags
from soban.cli.llama2c_train import check_vocabulary
from soban.cli.train import TrainOptions, arguments_of
from soban.learn.training.arguments import TrainArguments, completed

NEEDED = ["--data", "d", "--out", "o"]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "en")


def parsed(*words: str, needed: list[str] = NEEDED) -> TrainOptions:
    options = flags.parse("train", TrainOptions, [*needed, *words], "")
    assert options is not None
    return options


def arguments(*words: str, needed: list[str] = NEEDED) -> TrainArguments:
    """What the library is called with, and makes of it."""
    given = arguments_of(parsed(*words, needed=needed))
    return completed(TrainArguments(**given), frozenset(given))


OURS = [
    (["--n_layers=7"], "layers", 7),
    (["--n-layers", "7"], "layers", 7),
    (["--n_kv_heads", "2"], "key_value_heads", 2),
    (["--max_seq_len", "128"], "context", 128),
    (["--max_iters=300"], "steps", 300),
    (["--warmup_iters=10"], "warmup_steps", 10),
    (["--eval_interval", "50"], "evaluate_every", 50),
    (["--weight_decay=0.2"], "weight_decay", 0.2),
    (["--grad_clip", "0.5"], "grad_clip", 0.5),
    (["--gradient_accumulation_steps=4"], "gradient_accumulation_steps", 4),
    (["--learning_rate=5e-4"], "learning_rate", 5e-4),
    (["--batch_size", "32"], "batch_size", 32),
    (["--beta1=0.8"], "beta1", 0.8),
    (["--decay_lr=False"], "schedule", "constant"),
    (["--decay_lr=True"], "schedule", "cosine"),
    (["--grad_clip=0"], "grad_clip", 0.0),
    (["--always_save_checkpoint=False"], "preset", "5m"),
    (["--init_from=resume"], "resume", True),
    (["--init_from", "scratch"], "resume", False),
    (["--device=cpu"], "device", "cpu"),
    (["--dtype=float32"], "dtype", "float32"),
    (["--dropout=0.0", "--compile=False", "--wandb_log=False", "--always_save_checkpoint=True"], "preset", "5m"),
]


@pytest.mark.parametrize(("words", "name", "value"), OURS)
def test_they_mean_ours(words: list[str], name: str, value: object) -> None:
    assert getattr(arguments(*words), name) == value


def test_out_dir_is_out() -> None:
    assert arguments("--out_dir=there", needed=["--data", "d"]).out == "there"


# what llama2.c's own formula gives: 4 dim, two thirds of it, rounded up to a multiple
@pytest.mark.parametrize(
    ("words", "width"),
    [
        (["--dim=288", "--multiple_of=32"], 768),
        (["--dim=64", "--multiple_of=4"], 172),
        (["--dim", "512"], 1376),
        (["--dim=768"], 2048),
        (["--dim=64", "--intermediate-size", "100"], 100),
    ],
)
def test_the_inner_width_follows_the_outer(words: list[str], width: int) -> None:
    assert arguments(*words).intermediate_size == width


def test_heads_alone_are_all_of_keys_and_values_too() -> None:
    assert arguments("--n_heads=6").key_value_heads == 6
    assert arguments("--n_heads=6", "--n_kv_heads=3").key_value_heads == 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--dropout=0.1", "drops nothing"),
        ("--compile=True", "nothing is compiled"),
        ("--eval_only=True", "soban eval"),
        ("--wandb_log=True", "nothing is sent"),
        ("--wandb_project=p", "nothing is sent"),
        ("--multiple_of=32", "--hidden-size"),
        ("--dtype=float16", "float16 is not known"),
        ("--decay_lr=perhaps", "True, False"),
    ],
)
def test_what_is_not_done_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError) as told:
        arguments(word)
    assert said in str(told.value)


def test_a_multiple_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="too small"):
        arguments("--dim=64", "--multiple_of=0")


@pytest.mark.parametrize(
    ("words", "entries", "fits"),
    [
        (["--vocab_size=4096"], 4096, True),
        (["--vocab_size=4096"], 2048, False),
        (["--vocab_source=llama2"], 32000, True),
        (["--vocab_source=llama2"], 4096, False),
        (["--vocab_source=custom"], 4096, True),
        ([], 4096, True),
    ],
)
def test_the_vocabulary_is_the_datas(words: list[str], entries: int, fits: bool) -> None:
    if fits:
        check_vocabulary(parsed(*words).llama2c, "d", entries)
        return
    with pytest.raises(UserError, match=f"{entries} entries"):
        check_vocabulary(parsed(*words).llama2c, "d", entries)


def test_an_unknown_flag_is_named_as_it_was_written() -> None:
    with pytest.raises(UserError, match="--n_layerz"):
        parsed("--n_layerz=3")


def test_help_shows_our_names_and_percent_signs(capsys: pytest.CaptureFixture[str]) -> None:
    assert flags.parse("train", TrainOptions, ["--help"], "") is None
    shown = capsys.readouterr().out
    assert "(default: 2 %)" in shown and "--n-layers" not in shown
    assert max(map(len, shown.splitlines())) <= 80
