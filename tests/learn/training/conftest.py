"""What the tests of training share: data, and one training that nobody disturbed."""

from pathlib import Path

import pytest

from tests.learn.training import small


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of 300 tales."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "tales.txt").write_text(small.text(300), encoding="utf-8")
    return small.prepared(folder / "tales.txt", folder / "data")
