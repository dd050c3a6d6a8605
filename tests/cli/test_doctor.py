"""`soban doctor`: facts judged by the standard library, faults made on purpose, and no secret in any output."""

import getpass
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from soban import __version__
from soban.cli import doctor, main
from soban.cli.terminal.table import width
from soban.measure import checkup, surroundings
from soban.ops import native

from ..hub import stub
from .conftest import BY_PATH, SOURCE, Command, environment

SECRET = "hf_" + "S3cretS3cretS3cretS3cret12345678"


@pytest.fixture(autouse=True)
def quiet_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home and a hub of its own, and no variable that a developer has set."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "LC_", "LANG")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["doctor", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def found(report: dict[str, Any], code: str) -> dict[str, Any]:
    return next(finding for finding in report["findings"] if finding["code"] == code)


def test_it_tells_what_the_standard_library_tells(capsys: pytest.CaptureFixture[str]) -> None:
    report = told(capsys)
    assert report["soban"]["version"] == __version__ and report["soban"]["python"] == platform.python_version()
    assert report["processor"]["cores"] == os.cpu_count() and report["processor"]["threads"] >= 1
    assert report["terminal"]["preferred"] and report["terminal"]["language"] == "en"
    free = {disk["path"]: disk["free"] for disk in report["disks"]}
    for path, held in free.items():
        there = next(parent for parent in (Path(path), *Path(path).parents) if parent.exists())
        assert held == pytest.approx(shutil.disk_usage(there).free, rel=0.2)
    if sys.platform == "linux":
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        kilobytes = {name: 1024 * int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal")}
        memory = report["memory"]
        assert memory["built_in"] == pytest.approx(kilobytes["MemTotal"], rel=0.01)
        assert memory["swap"] == kilobytes["SwapTotal"] and 0 < memory["free"] <= memory["built_in"]


def test_the_instruction_sets_are_those_of_the_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if native.library() is None:
        pytest.skip("the native library is not built")
    library = told(capsys)["processor"]["library"]
    assert [one["name"] for one in library["sets"]] == list(native.isas()) and library["version"] == native.ABI
    assert library["chosen"] == native.chosen_isa() and all(one["works"] for one in library["sets"])
    monkeypatch.setattr("soban.ops.probe.works", lambda path, name, number: name == "scalar")
    report = told(capsys)
    assert report["processor"]["library"]["chosen"] == "scalar"
    assert found(report, "instructions-slow")["level"] == "warning"
    assert found(report, "instructions-broken")["value"] == native.isas()[1]
    monkeypatch.setenv("SOBAN_ISA", "mmx")
    assert "mmx" in found(told(capsys), "instructions-wrong")["problem"]


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("SOBAN_THREADS", "many", "threads-wrong", "SOBAN_THREADS=many"),
        ("SOBAN_THREADS", "1000", "threads-many", "1000 threads"),
        ("SOBAN_TREADS", "2", "variable-unknown", "did you mean SOBAN_THREADS?"),
        ("SOBAN_OPS", "reference", "numpy-chosen", "NumPy computes"),
        ("SOBAN_LANG", "de", "language-unknown", "English and Korean"),
        ("LANG", "ko_KR.EUC-KR", "locale-not-utf-8", "ko_KR.EUC-KR"),
        ("LC_ALL", "C", "locale-not-utf-8", "set LC_ALL to"),
        ("HF_ENDPOINT", "huggingface", "hub-address", "not an address"),
        ("HF_HUB_OFFLINE", "1", "hub-offline", "forbids the network"),
        ("SOBAN_CACHE", "{file}/cache", "folder-unwritable", "SOBAN_CACHE"),
    ],
)
def test_each_variable_that_is_wrong_has_a_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    name: str, value: str, code: str, said: str,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    finding = found(told(capsys), code)
    assert said in f"{finding['problem']}; {finding['remedy']}" and finding["remedy"]


def test_little_memory_and_little_disk_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soban.base.system.available_memory", lambda: 800_000_000)
    monkeypatch.setattr("soban.base.system.memory_limit", lambda: 1_000_000_000)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10**9))
    report = told(capsys)
    assert "800 MB" in found(report, "memory-little")["problem"] and "1.00 GB" in found(report, "disk-full")["problem"]
    if sys.platform == "linux":
        assert "1.00 GB" in found(report, "memory-limited")["problem"]


def test_no_output_holds_a_token_or_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "hf"
    home.mkdir()
    (home / "token").write_text(SECRET, encoding="utf-8")
    secrets = {
        "HF_TOKEN": SECRET, "HUGGING_FACE_HUB_TOKEN": SECRET, "HF_API_KEY": SECRET, "SOBAN_LANG": "en",
        "HTTPS_PROXY": "http://kim:pass%20word@proxy.test:8080", "https_proxy": "kim:hunter2@proxy.test:8080",
        "HF_ENDPOINT": "https://kim:hunter2@hub.test", "SOBAN_X": f"x={SECRET}", "HF_HUB_USER_AGENT_ORIGIN": SECRET,
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for words in ([], ["--json"], ["--report"], ["--report", "--json"]):
        main(["doctor", *words])
        output = "".join(capsys.readouterr())
        for secret in (SECRET, "hunter2", "pass%20word", "kim:"):
            assert secret not in output, (secret, words)
    report = told(capsys)
    assert report["hub"]["token"]["present"] and report["hub"]["token"]["variable"] == "HF_TOKEN"
    assert report["environment"]["HTTPS_PROXY"] == "http://***@proxy.test:8080"
    assert found(report, "token-twice")["level"] == "note"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_token_that_others_can_read_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert told(capsys)["hub"]["token"] == {"present": False, "variable": None, "file": None, "mode": None}
    path = tmp_path / "hf" / "token"
    path.parent.mkdir()
    path.write_text(SECRET, encoding="utf-8")
    path.chmod(0o644)
    report = told(capsys)
    assert (
        found(report, "token-readable")["remedy"] == f"run chmod 600 {path}"
        and report["hub"]["token"]["mode"] == "0644"
    )
    path.chmod(0o600)
    report = told(capsys)
    assert report["hub"]["token"] == {"present": True, "variable": None, "file": str(path), "mode": "0600"}
    assert "token-readable" not in [finding["code"] for finding in report["findings"]]


@pytest.mark.parametrize("words", [["--report"], ["--report", "--json"]])
def test_a_report_names_neither_the_user_nor_the_home_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    home = tmp_path / "홍 길동"
    (home / ".cache").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("SOBAN_CACHE", str(home / "캐시"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setattr(getpass, "getuser", lambda: "gildong")
    monkeypatch.setenv("HF_HUB_CACHE", "/data/Gildong/hub")
    monkeypatch.setenv("SOBAN_LANG", "ko")
    assert main(["doctor", *words]) == 0
    output = capsys.readouterr().out
    assert (
        "홍 길동" not in output
        and "gildong" not in output.lower()
        and "~/캐시" in output
        and "/data/<user>/hub" in output
    )
    assert "language" in output and os.environ["SOBAN_LANG"] == "en"  # a report is in English; the language is told
    assert re.search('language +Korean|"language": "ko"', output)


def test_it_fits_into_80_columns_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    for language in ("en", "ko"):
        monkeypatch.setenv("SOBAN_LANG", language)
        lines = doctor.as_text(checkup.checkup())
        wide = [line for line in lines if width(line) > 80 and "/" not in line]  # a path is not broken
        assert not wide


def test_the_floors_of_the_versions_are_those_of_pyproject() -> None:
    text = (SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8")
    declared = dict(re.findall(r'"([\w-]+)>=([\d.]+)[",]', text.split("\ndependencies = [")[1].split("]")[0]))
    known = {name: least for name, (least, _) in surroundings.CORE.items()}
    assert known == {name.replace("-", "_"): least for name, least in declared.items()}
    learn = dict(re.findall(r'"([\w-]+)>=([\d.]+)', text.split("\nlearn = [")[1].split("\n]")[0]))
    assert {name: least for name, (least, _) in surroundings.EXTRAS["learn"].items()} == learn


def test_versions_that_do_not_fit_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = surroundings._version
    changed = {"numpy": "1.24.4", "jinja2": None, "tokenizers": "9.0.1", "torch": None}
    monkeypatch.setattr(surroundings, "_version", lambda name: changed.get(name, real(name)))
    report = told(capsys)
    assert found(report, "package-old")["value"] == "1.24.4" and "1.26" in found(report, "package-old")["problem"]
    assert "pip install 'jinja2>=3.1'" in found(report, "package-missing")["remedy"]
    assert report["packages"]["extras"]["learn"]["complete"] is False
    assert "torch" in report["packages"]["extras"]["learn"]["missing"]
    assert not main(["doctor"]) and "tokenizers 9.0.1*" in capsys.readouterr().out.replace("\n" + 19 * " ", " ")


def test_packages_that_contradict_each_other_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("packaging")
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda name: ["numpy<1,>=0.9", "filelock; extra == 'x'"] if name == "jinja2" else [],
    )
    clashes = [one for one in told(capsys)["findings"] if one["code"] == "packages-clash"]
    assert len(clashes) == 1 and "wants numpy<1,>=0.9" in clashes[0]["problem"]


def test_it_works_where_numpy_does_not(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise ImportError('DLL load failed\\nwhile importing')", "utf-8")
    done = run(PYTHONPATH=os.pathsep.join((str(tmp_path), str(SOURCE))))
    report = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == b""
    assert "DLL load failed while importing" in found(report, "numpy-broken")["problem"]
    assert report["processor"]["library"]["sets"] == []


@pytest.mark.parametrize("content", [None, b"no library at all"])
def test_it_works_where_the_library_is_missing_or_broken(tmp_path: Path, content: bytes | None) -> None:
    shutil.copytree(
        SOURCE / "soban", tmp_path / "soban", ignore=shutil.ignore_patterns("*soban_native*", "assets", "__pycache__")
    )
    if content is not None:
        (tmp_path / "soban" / "libsoban_native.so").write_bytes(content)
    done = run(PYTHONPATH=str(tmp_path))
    report = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == b"" and report["processor"]["library"]["chosen"] is None
    assert "--force-reinstall" in found(report, "library-broken" if content else "library-missing")["remedy"]


def run(**changes: str) -> subprocess.CompletedProcess[bytes]:
    code = "from soban.cli import main; sys.exit(main(['doctor', '--json']))"
    return subprocess.run(
        [sys.executable, "-c", BY_PATH + code],
        capture_output=True,
        timeout=60,
        env=environment(SOBAN_OPS="native", **changes),
    )


def test_it_imports_nothing_heavy_and_answers_at_once() -> None:
    code = (
        "import sys, time; start = time.process_time(); from soban.cli import main; main(['doctor', '--json']);"
        "print(sorted(sys.modules.keys() & {'torch', 'transformers', 'tokenizers', 'huggingface_hub', 'rich'}),"
        "time.process_time() - start, file=sys.stderr)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment())  # instruction sets are tried
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), text=True)
    modules, seconds = done.stderr.rsplit(" ", 1)
    print(f"soban doctor: {float(seconds):.2f} s of processor time")
    assert modules == "[]" and float(seconds) < 2


def test_the_network_is_asked_only_on_request_and_what_is_in_the_way_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stub.Hub() as hub:
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        assert "network" not in told(capsys) and hub.requests == []
        report = told(capsys, "--network")
        assert report["network"]["reached"] and report["network"]["token"] is None
        assert [one.authorization for one in hub.requests] == [None]
        monkeypatch.setenv("HF_TOKEN", SECRET)
        assert "token" in found(told(capsys, "--network"), "token-refused")["problem"]
        hub.tokens[SECRET] = stub.Token(role="fineGrained", reads_gated=False)
        report = told(capsys, "--network")
        assert report["network"]["token"] == {"accepted": True, "role": "fineGrained", "reads_gated": False}
        assert SECRET not in json.dumps(report) and "gated" in found(report, "token-without-gated")["problem"]
    report = told(capsys, "--network")
    assert report["network"]["reached"] is False and "cannot be reached" in found(report, "hub-unreachable")["problem"]


def test_strict_is_for_scripts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_THREADS", "many")
    assert main(["doctor"]) == 0 and main(["doctor", "--strict"]) == 1
    assert "! SOBAN_THREADS: SOBAN_THREADS=many: not a number of threads" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("LC_ALL", "C"), ("LC_ALL", "C.UTF-8")])
def test_the_locale_is_called_as_the_system_calls_it(process: Command, name: str, value: str) -> None:
    told = json.loads(process("doctor", "--json", **{name: value}).stdout)
    assert told["terminal"]["locale"] == value


def test_a_network_that_is_forbidden_is_told_once_and_the_report_is_in_english(soban: Command) -> None:
    told = json.loads(soban("doctor", "--network", "--json", HF_HUB_OFFLINE="1").stdout)
    assert [one["code"] for one in told["findings"] if one["code"].startswith("hub-")] == ["hub-offline"]
    told = {**told, "hub": {**told["hub"], "token": {"present": True, "variable": "HF_TOKEN", "file": "x", "mode": ""}}}
    assert "HF_TOKEN and x" in dict(doctor.hub(told))["token"]
    assert "한국어" not in soban("doctor", "--report", SOBAN_LANG="ko").stdout.decode()
