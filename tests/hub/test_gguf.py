"""Repositories of GGUF files: one form of the model is fetched, and run; what there is is told with what fits."""

import json
from pathlib import Path

import pytest

import soban
from soban.base import system
from soban.base.errors import UserError
from soban.hub import choosing, download, names, store
from soban.hub.names import Repository
from tests.hub.stub import Fault, Hub, Model
from tests.models.official import CONFIGS, folder_of
from tests.weights.gguf.making import make_gguf

NAME = "owner/Tiny-GGUF"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    """A repository with two forms in a file each, and one in two files."""
    folder = tmp_path_factory.mktemp("model")
    folder_of(folder, CONFIGS["llama"] | {"intermediate_size": 64})
    files: dict[str, bytes | Path] = {name: b"x" for name in ("README.md", "imatrix.gguf", "mmproj-f16.gguf")}
    files["config.json"] = b"{}"
    for form in ("Q4_0", "Q8_0"):
        make_gguf(folder, folder / "m.gguf", form)
        files[f"Tiny-{form}.gguf"] = (folder / "m.gguf").read_bytes()
        (folder / "m.gguf").unlink()
    files |= {f"F16/Tiny-F16-0000{n}-of-00002.gguf": bytes([n]) * 20_000 for n in (1, 2)}
    return files


def pull(word: str) -> Path:
    repository = names.find(word)
    assert repository is not None
    return download.pull(repository, lambda progress: None)


def test_only_the_form_that_is_named_is_fetched_and_runs(hub: Hub, data: dict[str, bytes | Path], capsys) -> None:  # type: ignore[no-untyped-def]
    from soban.cli import main

    hub.models[NAME] = Model(data)
    assert main(["pull", f"{NAME}:q8_0", "-q"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert {path.name for path in folder.rglob("*")} == {"README.md", "Tiny-Q8_0.gguf"}
    assert hub.sent("Tiny-Q8_0.gguf") == len(data["Tiny-Q8_0.gguf"]) and not hub.sent("Tiny-Q4_0.gguf")  # type: ignore[arg-type]
    sent = hub.sent()
    model = soban.load(f"{NAME}:Q8_0")
    assert model.loaded.path.name == "Tiny-Q8_0.gguf" and hub.sent() == sent
    assert store.complete_folder(Repository(NAME, form="Q4_0")) is None
    assert [(held.id, held.complete) for held in store.models()] == [(NAME, True)]
    pull(f"{NAME}:Q4_0")  # beside the other
    assert (folder / "Tiny-Q4_0.gguf").is_file() and (folder / "Tiny-Q8_0.gguf").is_file()
    with pytest.raises(UserError, match=r"2 GGUF models: Tiny-Q4_0.gguf, Tiny-Q8_0.gguf"):
        soban.load(NAME)


def test_all_files_of_a_form_come_and_what_came_is_not_fetched_again(hub: Hub, data: dict[str, bytes | Path]) -> None:
    second = "F16/Tiny-F16-00002-of-00002.gguf"
    hub.models[NAME] = Model(data, faults={second: Fault(status=404)})
    with pytest.raises(UserError):
        pull(f"{NAME}:F16")
    assert store.complete_folder(Repository(NAME, form="F16")) is None
    hub.models[NAME].faults.clear()
    folder = pull(f"{NAME}:F16")
    assert hub.sent("F16/Tiny-F16-00001-of-00002.gguf") == 20_000
    assert store.form_file(folder, "f16") == folder / "F16" / "Tiny-F16-00001-of-00002.gguf"
    assert (folder / second).read_bytes() == data[second]


def test_without_a_form_all_are_listed_with_what_fits_here(
    hub: Hub, data: dict[str, bytes | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models[NAME] = Model(data)
    size = len(data["Tiny-Q8_0.gguf"])  # type: ignore[arg-type]
    monkeypatch.setattr(system, "available_memory", lambda: size - 1 + choosing.BESIDE_WEIGHTS)
    with pytest.raises(UserError) as refusal:
        pull(NAME)
    said = str(refusal.value)
    assert "Q4_0" in said and "Q8_0" in said and said.index("Q4_0") < said.index("Q8_0")
    assert said.count("(more than the free memory)") == (1 if size > 40_000 else 2)
    assert f"soban pull {NAME}:" in said and f"{NAME}:Q8_0" not in said
    with pytest.raises(UserError, match="in these forms"):
        pull(f"{NAME}:Q5_K_M")
    hub.models["owner/one"] = Model({"a.Q4_0.gguf": data["Tiny-Q4_0.gguf"]})
    assert (pull("owner/one") / "a.Q4_0.gguf").is_file()
    assert soban.load("owner/one").loaded.dtype
    hub.models["owner/plain"] = Model({"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(UserError, match="no GGUF files in it"):
        pull("owner/plain:Q4_0")


def test_plan_reads_the_header_alone(hub: Hub, data: dict[str, bytes | Path], capsys) -> None:  # type: ignore[no-untyped-def]
    from soban.cli import main

    hub.models[NAME] = Model(data)
    assert main(["plan", f"{NAME}:Q8_0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["download"]["bytes"] if isinstance(told.get("download"), dict) else told
    assert not list(store.models())


def test_names_with_a_form_are_read_and_forms_are_known_by_the_ends_of_names() -> None:
    assert names.find("owner/name:Q4_K_M") == Repository("owner/name", form="Q4_K_M")
    assert names.find("https://huggingface.co/owner/name:IQ4_XS") == Repository("owner/name", form="IQ4_XS")
    assert names.find("hf.co/owner/name:Q8_0") == Repository("owner/name", form="Q8_0")
    assert str(names.find("owner/name@v1:Q8_0")) == "owner/name:Q8_0"
    files = [
        "a-Q4_K_M.gguf", "a.IQ4_XS.gguf", "a-UD-Q4_K_XL.gguf", "b/a-BF16-00001-of-00002.gguf",
        "b/a-BF16-00002-of-00002.gguf", "a-q4_0.gguf", "mmproj-a-f16.gguf", "readme.md", "model.gguf", "a-MXFP4.gguf",
    ]  # fmt: skip
    assert choosing.gguf_forms(files) == {
        "Q4_K_M": [files[0]], "IQ4_XS": [files[1]], "UD-Q4_K_XL": [files[2]], "BF16": files[3:5], "q4_0": [files[5]],
        "model": [files[8]], "MXFP4": [files[9]],
    }  # fmt: skip
