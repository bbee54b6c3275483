"""What all tests in a browser share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.page.visit import browser, convert_toy


@pytest.fixture(scope="package")
def weights(tmp_path_factory) -> Path:
    return convert_toy(tmp_path_factory.mktemp("toy") / "weights")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found
