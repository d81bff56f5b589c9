"""Fixtures shared by all tests: where the real and the sample models are."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
        pytest.skip(f"the real models are not here: {folder}")
    return folder
