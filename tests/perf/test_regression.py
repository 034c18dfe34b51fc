"""The comparison with a base: what a base cannot do is said and fails nothing; what is slower stands out."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf import regression


def test_a_base_from_before_there_was_compiled_code_has_nothing_to_time(tmp_path: Path) -> None:
    (tmp_path / "cyhorn").mkdir()
    assert regression.build(tmp_path) == "has no compiled module"


def test_a_base_that_does_not_build_here_is_no_failure_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "cyhorn").mkdir()
    (tmp_path / "cyhorn/_parser.pyx").touch()
    (tmp_path / "setup.py").write_text("raise SystemExit('needs another Cython')\n")
    assert regression.build(tmp_path) == "does not build here"


def test_a_case_counts_with_its_best_time() -> None:
    assert regression.best({"a": 2.0, "b": 1.0}, {"a": 1.0, "c": 3.0}) == {"a": 1.0, "b": 1.0, "c": 3.0}


def test_the_table_shows_both_times_their_ratio_and_what_is_slower(capsys: pytest.CaptureFixture[str]) -> None:
    base = {"perf/test_parser.py::test_head[python]": 2e-6, "perf/test_parser.py::test_body[python]": 1e-6}
    head = {"perf/test_parser.py::test_head[python]": 3e-6, "perf/test_parser.py::test_body[python]": 1e-6}
    regression.report(base, head | {"perf/test_new.py::test_new": 1.0}, ["perf/test_parser.py::test_head[python]"], 0.25)
    lines = capsys.readouterr().out.splitlines()
    assert "parser: head[python]      2.00      3.00       1.50  SLOWER" in lines
    assert "parser: body[python]      1.00      1.00       1.00" in lines
    assert any("2 cases" in line and "1 cases are new" in line for line in lines)
    assert lines[-1] == "slower than the base by more than 25%: parser: head[python]"
