"""Fixtures shared by all tests: where the real and the sample models are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of the code: no test is held to a clock.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither reads nor writes what the user has in the cache; processes that tests start inherit it."""
    os.environ["MODELOPT_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("MODELOPT_CACHE_SIZE", None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample models."""
    return ROOT / "sample_models"


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The folder of real models beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "zoo"
    if not folder.is_dir():
        # Too large for the project, and of other licences; what they show is tested on sample models as well.
        pytest.skip(f"the real models are not here: {folder}")
    return folder
