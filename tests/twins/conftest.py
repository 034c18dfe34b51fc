"""Where the Python side alone is tested there is nothing to compare, and no compiled side to look into."""

from __future__ import annotations

from pathlib import Path

import pytest

COMPARISONS = (
    "test_contract.py",
    "test_contract_core.py",
    "test_access_descriptor.py",
    "test_differential_access.py",
    "test_differential_core.py",
    "test_differential_parser.py",
    "test_fuzz_corpus.py",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("--impl") == "python" and collection_path.name in COMPARISONS:
        return True
    return None
