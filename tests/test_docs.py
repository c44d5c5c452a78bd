"""What the documents promise, they show by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "least"), [("security.md", 60), ("safety.md", 35)])
def test_every_promise_names_tests_that_there_are(name: str, least: int) -> None:
    named = re.findall(r"`(\w+)::(\w+)`", (ROOT / "docs" / name).read_text("utf-8"))
    assert len(named) > least
    for file, test in named:
        found = (ROOT / "tests").rglob(f"test_{'stock_api' if file == 'stock' else file}.py")
        assert any(f"def {test}(" in path.read_text("utf-8") for path in found), (file, test)
