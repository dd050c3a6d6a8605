"""Models of one's own with an adapter: what measures them takes it along, and what would lose it refuses them."""

import json
from pathlib import Path

import pytest

import soban as library
from tests.cli.conftest import Command, text
from tests.models.official import CONFIGS, folder_of
from tests.packing.test_adapters import adapted

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

TEXT = "Once upon a time there was a hen."


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {name: str(tmp_path / "state") for name in ("XDG_STATE_HOME", "LOCALAPPDATA")}


def test_eval_gives_the_loss_of_the_model_that_peft_has(soban: Command, tmp_path: Path, home: dict[str, str]) -> None:
    folder = folder_of(tmp_path, CONFIGS["llama"])
    judge = adapted(folder, "llama")
    (tmp_path / "Modelfile").write_text(f"FROM {folder}\nADAPTER {folder / 'adapter'}\n", encoding="utf-8")
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    text(soban("create", "mina", "-f", tmp_path / "Modelfile", **home))

    def figures(model: str | Path, *words: str | Path) -> dict[str, dict[str, dict[str, float]]]:
        done = soban("eval", model, "--perplexity", tmp_path / "text", "--dtype", "f32", "--json", *words, **home)
        return dict(json.loads(text(done)))

    ids = torch.tensor([library.load(folder).tokenize(TEXT)])
    with torch.no_grad():
        loss = float(judge(ids, labels=ids).loss)
    own, base = figures("mina", "--kl", "f32"), figures(folder)
    # float32 logits of less than 20 are off by 20 * 2**-24 each, sums in them by some of those
    assert own["loss"]["mean"] == pytest.approx(loss, rel=1e-5)
    assert abs(base["loss"]["mean"] - loss) > 0.01
    assert own["against_reference"]["divergence"]["mean"] == 0  # the reference has the adapter, too
    against_base = figures("mina", "--kl", folder)["against_reference"]
    assert against_base["divergence"]["mean"] > 0.001
    assert against_base["loss"]["mean"] == base["loss"]["mean"]


def test_convert_refuses_what_would_lose_its_adapter(soban: Command, tmp_path: Path, home: dict[str, str]) -> None:
    folder = folder_of(tmp_path, CONFIGS["llama"])
    adapted(folder, "llama")
    (tmp_path / "Modelfile").write_text(f"FROM {folder}\nADAPTER {folder / 'adapter'}\n", encoding="utf-8")
    text(soban("create", "mina", "-f", tmp_path / "Modelfile", **home))
    for out in ("out.gguf", "out.bin", "out"):
        done = soban("convert", "mina", tmp_path / out, **home)
        assert done.returncode == 2 and not (tmp_path / out).exists()
        (line,) = done.stderr.decode().splitlines()
        assert "mina" in line and str(folder / "adapter") in line and f"convert {folder}," in line
    text(soban("convert", folder, tmp_path / "out.gguf", **home))
