"""The hub of the tests, judged by huggingface_hub's own client."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.hub.stub import Fault, Hub, Model, Token

FILES: dict[str, bytes | Path] = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 300}


def client(hub: Hub, home: Path, code: str, **environment: str) -> str:
    """What a Python process of its own prints that uses huggingface_hub with this hub."""
    surroundings = {**os.environ, **hub.environment(home), **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=surroundings)
    return done.stdout + done.stderr[-2000:]


def test_the_real_client_fetches_a_repository(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.models["a/b"] = Model(dict(FILES), faults={"model.safetensors": Fault(cut=70_000, times=1)})
        code = "import huggingface_hub as h; print(h.snapshot_download('a/b'))"
        folder = Path(client(hub, tmp_path, code).splitlines()[0])
        assert {name: (folder / name).read_bytes() for name in FILES} == FILES
        assert hub.requests[-1].authorization is None


def test_the_real_client_tells_the_refusals_apart(tmp_path: Path) -> None:
    code = (
        "import huggingface_hub as h\nfor t in (False, 'hf_no', 'hf_yes', 'hf_fine', 'hf_wrong'):\n"
        "    try: h.hf_hub_download('a/b', 'config.json', token=t); print('ok')\n"
        "    except Exception as e: print(type(e).__name__, getattr(getattr(e, 'response', None), 'status_code', 0))"
    )
    with Hub() as hub:
        hub.models["a/b"] = Model(dict(FILES), gated="manual")
        hub.tokens = {
            "hf_no": Token(), "hf_yes": Token(consented={"a/b"}), "hf_fine": Token("fineGrained", reads_gated=False)
        }  # fmt: skip
        said = client(hub, tmp_path, code).splitlines()
        who = client(hub, tmp_path, "import huggingface_hub as h, json; print(json.dumps(h.whoami('hf_fine')))")
    assert said[:3] == ["GatedRepoError 401", "GatedRepoError 403", "ok"]
    assert json.loads(who)["auth"]["accessToken"]["fineGrained"]["canReadGatedRepos"] is False
