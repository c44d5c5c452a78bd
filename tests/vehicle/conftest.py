"""The models of most of this folder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vehicle.making import make_store
from vehicle.models import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Two models that nothing but their names tells apart."""
    return make_store(tmp_path, one=("FRONT_FACING_CAMERA",), two=("FRONT_FACING_CAMERA",))
