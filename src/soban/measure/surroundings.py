"""What soban stands among: versions of packages, the hub's settings, the terminal, the environment. No secrets."""

import difflib
import importlib.metadata
import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soban import messages
from soban.base import system
from soban.base.errors import Finding, UserError
from soban.base.version import VERSION

Report = dict[str, Any]
# The least version that is accepted, as pyproject.toml says it, and the newest with which all tests passed.
CORE = {
    "pyyaml": ("6", "6.0.4"), "numpy": ("1.26", "2.4.6"), "tokenizers": ("0.20", "0.23.3"), "jinja2": ("3.1", "3.1.6"),
    "filelock": ("3.13", "4.2.11"), "prompt_toolkit": ("3.0.52", "3.0.53"), "huggingface_hub": ("1.0", "2.4.0"),
    "truststore": ("0.10", "0.10.5"), "llguidance": ("1.9", "1.9.1"), "fastapi": ("0.115", "0.165.0"),
    "uvicorn": ("0.30", "0.54.0"),
}  # fmt: skip
EXTRAS = {
    "learn": {
        "torch": ("2.6", "2.13.0"), "transformers": ("5.0", "5.23.0"), "safetensors": ("0.4.3", "0.8.0"),
        "accelerate": ("1.10", "1.15.0"), "matplotlib": ("3.8", "3.11.2"), "psutil": ("5.9", "7.2.2"),
        "peft": ("0.18", "0.21.2"),
    }
}  # fmt: skip
OTHERS = ("peft", "trl", "datasets", "rich")  # told where they are
OWN = ("SOBAN_CACHE", "SOBAN_ISA", "SOBAN_LANG", "SOBAN_OPS", "SOBAN_THREADS")
TOLD = re.compile(
    r"(SOBAN|HF|HUGGING|HUGGINGFACE|TRANSFORMERS|OMP|OPENBLAS|MKL|GOMP|KMP|LC)_\w+|(?i:(https?|all|no)_proxy)"
    r"|LANG|LANGUAGE|TERM|NO_COLOR|TMPDIR|TEMP|XDG_CACHE_HOME|(SSL_CERT|REQUESTS_CA|CURL_CA)_\w+"
    r"|PYTHON(PATH|HOME|UTF8|IOENCODING|WARNINGS|MALLOC|LEGACYWINDOWS\w+)|VIRTUAL_ENV|CONDA_PREFIX"
)
SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD)(?!_PATH)(_|$)", re.IGNORECASE)
TOKEN = re.compile(r"\b(hf|api)_[A-Za-z0-9]{8,}\b")
LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)")
PROXY_LOGIN = re.compile(r"^[^/@]+(?=@)")  # an address without http:// before it
HIDDEN = "***"
FAULTS = 500  # statuses from here on are the server's own trouble
NARROW = 60  # columns in which the tables still look like tables


def installation(findings: list[Finding]) -> Report:
    """soban and the Python that runs it."""
    if sys.maxsize < 2**32:
        findings.append(
            Finding(
                "python-32-bit",
                UserError(
                    "this Python is a 32-bit program, and no model above 2 GB fits into it",
                    hint="install the 64-bit Python from python.org",
                ),
            )
        )  # fmt: skip
    return {
        "version": VERSION, "folder": str(Path(__file__).resolve().parents[1]), "python": platform.python_version(),
        "implementation": platform.python_implementation(), "executable": sys.executable,
        "environment": sys.prefix != sys.base_prefix,
    }  # fmt: skip


def packages(findings: list[Finding]) -> Report:
    """Versions of what soban stands on, and of its extras; nothing is imported but NumPy, which everything needs."""
    all_versions: dict[str, str | None] = {}
    for name, (least, _) in CORE.items():
        all_versions[name] = _version(name)
        _check_version(name, all_versions[name], least, f"pip install '{name}>={least}'", findings)
    if all_versions["numpy"] is not None:
        _check_numpy(findings)
    extras = {}
    for extra, requirements in EXTRAS.items():
        versions = {name: _version(name) for name in requirements}
        there = [name for name, version in versions.items() if version is not None]
        extras[extra] = {"complete": len(there) == len(requirements), "missing": sorted(set(requirements) - set(there))}
        for name in there:
            _check_version(name, versions[name], requirements[name][0], f"pip install 'soban[{extra}]'", findings)
        all_versions |= versions
    all_versions |= {name: _version(name) for name in OTHERS}
    _check_together({name: version for name, version in all_versions.items() if version}, findings)
    highest = {name: range_[1] for table in (CORE, *EXTRAS.values()) for name, range_ in table.items()}
    return {
        "versions": {name: version for name, version in all_versions.items() if version},
        "tried": highest,
        "extras": extras,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, OSError, KeyError, ValueError):
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The numbers at a version's beginning, to be compared: 2.13.0 of "2.13.0+cpu"."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z-]", version, maxsplit=1)[0])[:3])


def _check_version(name: str, version: str | None, least: str, command: str, findings: list[Finding]) -> None:
    if version is None:
        error = UserError(
            "{name} is not installed, and soban needs it", name=name, command=command, hint="run {command}"
        )  # fmt: skip
        findings.append(Finding("package-missing", error, name))
    elif numbers(version) < numbers(least):
        error = UserError(
            "{name} {version} is older than {least}, which soban needs", name=name, version=version, least=least,
            command=command, hint="run {command}",
        )  # fmt: skip
        findings.append(Finding("package-old", error, name, version))


def _check_numpy(findings: list[Finding]) -> None:
    try:
        import numpy as np

        assert np.zeros(1) @ np.ones(1) == 0
    except Exception as error:  # a library of its own that is missing shows itself in many ways
        broken = UserError(
            "NumPy is installed and does not work: {reason}", reason=" ".join(str(error).split())[:200],
            hint="run pip install --force-reinstall numpy",
        )  # fmt: skip
        findings.append(Finding("numpy-broken", broken, "numpy"))


def _check_together(versions: Mapping[str, str], findings: list[Finding]) -> None:
    """Whether each package's own demands on the others are met."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name
    except ImportError:
        return
    names = {canonicalize_name(name): (name, version) for name, version in versions.items()}
    for package in versions:
        for line in importlib.metadata.requires(package) or []:
            try:
                demand = Requirement(line)
            except InvalidRequirement:
                continue
            other, version = names.get(canonicalize_name(demand.name), ("", ""))
            if not other or (demand.marker is not None and not demand.marker.evaluate({"extra": ""})):
                continue
            if not demand.specifier.contains(version, prereleases=True):
                error = UserError(
                    "{package} {own} wants {other}{specifier}, and {version} is installed", package=package,
                    own=versions[package], other=other, specifier=demand.specifier, version=version,
                    hint="run pip install '{other}{specifier}'",
                )  # fmt: skip
                findings.append(Finding("packages-clash", error, other, version))


def hub(findings: list[Finding]) -> Report:
    """The hub's address, whether it may be asked, and the token: only whether there is one, where, and who can read it.

    The token itself is not read.
    """
    from soban.hub import place

    try:
        endpoint: str | None = place.endpoint()
    except UserError as error:
        findings.append(Finding("hub-address", error, "HF_ENDPOINT", os.environ.get("HF_ENDPOINT")))
        endpoint = None
    if place.is_offline():
        forbidden = UserError("HF_HUB_OFFLINE=1 forbids the network", hint="unset it to fetch models")
        findings.append(Finding("hub-offline", forbidden, "HF_HUB_OFFLINE", level="note"))
    return {"endpoint": endpoint, "offline": place.is_offline(), "token": _token(findings)}


def _token(findings: list[Finding]) -> Report:
    """Where the access token is."""
    from soban.hub import place

    name = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name, "").strip()), None)
    try:
        path: Path | None = place.token_file()
        state = path.stat() if path else None
    except (UserError, OSError):
        path, state = None, None
    if state is not None and path is not None and sys.platform != "win32" and state.st_mode & 0o077:
        findings.append(
            Finding(
                "token-readable",
                UserError(
                    "{path}: others on this PC can read the access token (mode {mode})", path=path,
                    mode=f"{state.st_mode & 0o777:04o}", hint="run chmod 600 {path}",
                ),
                str(path), f"{state.st_mode & 0o777:04o}",
            )
        )  # fmt: skip
    if name and state is not None:
        findings.append(
            Finding(
                "token-twice",
                UserError(
                    "there is a token in {name} and one in {path}; the first is used", name=name, path=path,
                    hint="unset {name}, if the file's is the right one",
                ),
                name, level="note",
            )
        )  # fmt: skip
    mode = None if state is None else f"{state.st_mode & 0o777:04o}"
    return {
        "present": bool(name) or (state is not None and state.st_size > 0), "variable": name,
        "file": None if path is None or state is None else str(path), "mode": mode,
    }  # fmt: skip


def terminal(findings: list[Finding]) -> Report:
    """How text goes in and out, and in which language soban speaks."""
    language, setting = messages.language(), os.environ.get("SOBAN_LANG")
    if setting and language != "en" and not _speaks(language):
        findings.append(
            Finding(
                "language-unknown",
                UserError(
                    "SOBAN_LANG={value}: soban speaks English and Korean", value=setting, hint="set it to ko or en"
                ),
                "SOBAN_LANG", setting, "note",
            )
        )  # fmt: skip
    names = ("LC_ALL", "LC_CTYPE", "LANG")  # in the order in which the system takes them
    variable, locale_name = next(((name, value) for name in names if (value := os.environ.get(name))), ("", ""))
    if sys.platform != "win32" and locale_name and not re.search(r"utf-?8", locale_name, re.IGNORECASE):
        findings.append(
            Finding(
                "locale-not-utf-8",
                UserError(
                    "the locale {name} is not UTF-8, so Hangul may come out as other signs", name=locale_name,
                    variable=variable, hint="set {variable} to ko_KR.UTF-8 or C.UTF-8",
                ),
                variable, locale_name,
            )
        )  # fmt: skip
    size = shutil.get_terminal_size()
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    if is_terminal and size.columns < NARROW:
        findings.append(
            Finding(
                "terminal-narrow",
                UserError(
                    "the terminal has {columns} columns; tables need {wanted}", columns=size.columns, wanted=NARROW,
                    hint="make its window wider",
                ),
                value=size.columns, level="note",
            )
        )  # fmt: skip
    return {
        "language": language if _speaks(language) else "en", "locale": locale.setlocale(locale.LC_CTYPE),
        "stdout": getattr(sys.stdout, "encoding", None), "preferred": locale.getpreferredencoding(False),
        "file_names": sys.getfilesystemencoding(), "code_page": _code_page(), "terminal": is_terminal,
        "columns": size.columns, "obeys_escapes": system.obeys_escapes(),
    }  # fmt: skip


def _speaks(language: str) -> bool:
    return language == "en" or (Path(messages.__file__).parent / f"{language}.mo").is_file()


def _code_page() -> int | None:
    """Of a Windows console."""
    if sys.platform != "win32":
        return None
    import ctypes

    return int(getattr(ctypes, "windll").kernel32.GetConsoleOutputCP())  # noqa: B009  (absent on other systems)


def environment(findings: list[Finding]) -> dict[str, str]:
    """The variables that matter here, secrets hidden."""
    for name in sorted(os.environ):
        if name.startswith("SOBAN_") and name not in OWN:
            near = difflib.get_close_matches(name, OWN, 1)
            error = UserError(
                "{name} is no variable of soban's", name=name, near=near[0] if near else "", known=", ".join(OWN),
                hint="did you mean {near}?" if near else "it knows {known}",
            )  # fmt: skip
            findings.append(Finding("variable-unknown", error, name, level="note"))
    if os.environ.get("SOBAN_OPS", "native") != "native":
        findings.append(
            Finding(
                "numpy-chosen",
                UserError(
                    "SOBAN_OPS={value}: NumPy computes, at a tenth of the speed or less", value=os.environ["SOBAN_OPS"],
                    hint="unset it",
                ),
                "SOBAN_OPS", os.environ["SOBAN_OPS"],
            )
        )  # fmt: skip
    return {name: hidden(name, value) for name, value in sorted(os.environ.items()) if TOLD.fullmatch(name)}


def hidden(name: str, value: str) -> str:
    """A variable's value as it may be shown: no token, no password."""
    if SECRET.search(name):
        return HIDDEN if value else ""
    if name.lower().endswith("_proxy"):
        value = PROXY_LOGIN.sub(HIDDEN, value)
    return without_secrets(value)


def without_secrets(text: str) -> str:
    """A text without tokens, and without the names and passwords that stand in addresses."""
    return LOGIN.sub(HIDDEN, TOKEN.sub(HIDDEN, text))


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """A report, or part of one, with every text in it cleaned, the findings' too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Finding):
        return value.cleaned(clean)
    if isinstance(value, Mapping):
        return {key: cleaned(item, clean) for key, item in value.items()}
    return [cleaned(item, clean) for item in value] if isinstance(value, list) else value


def network(findings: list[Finding]) -> Report:
    """Whether the hub answers now, how fast, and whether it takes the token: a request or two, each made once."""
    import time

    start = time.perf_counter()
    try:
        _reach()
        seconds = time.perf_counter() - start
        return {"reached": True, "seconds": seconds, "token": _accepted(findings)}
    except (UserError, ImportError) as error:
        problem = (
            error
            if isinstance(error, UserError)
            else UserError("{problem}", problem=error, hint="pip install huggingface_hub truststore")
        )
        from soban.hub import place

        if not place.is_offline():  # which is told already
            findings.append(Finding("hub-unreachable", problem))
        return {"reached": False, "seconds": time.perf_counter() - start, "token": None}


def _reach() -> None:
    """Returns if the hub answers. Raises UserError with what is in the way, ImportError where a library is missing."""
    from soban.hub import place, session

    try:
        with session.open_client() as client:
            # Whoever asks without a token is refused in JSON, which a network's login page would not do.
            url = f"{place.endpoint()}/api/whoami-v2"
            with session.answer(client, url, session.headers(None)) as response:
                status, body = response.status_code, next(response.iter_bytes(), b"").lstrip()
    except session.Unavailable as unavailable:
        raise unavailable.why from None
    if status >= FAULTS or not body.startswith(b"{"):
        raise UserError(
            "something answers in the hub's place, or the hub is out of order (status {status})", status=status,
            hint="check HF_ENDPOINT, and whether a page of your network wants a login first",
        )  # fmt: skip


def _accepted(findings: list[Finding]) -> Report | None:
    """What the hub says of the token, without its owner's name; None where there is none."""
    from soban.hub import access

    try:
        if (secret := access.token()) is None:
            return None
        identity = access.identify(secret)
    except UserError as error:
        findings.append(Finding("token-refused", error))
        return {"accepted": False}
    if not identity.reads_gated:
        scope = UserError(
            "the token may not read gated models", page=access.tokens_page(), scope=access.SCOPE,
            hint="open {page}, edit the token, and tick: {scope}",
        )  # fmt: skip
        findings.append(Finding("token-without-gated", scope))
    return {"accepted": True, "role": identity.role, "reads_gated": identity.reads_gated}
