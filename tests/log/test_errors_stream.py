"""`wsgi.errors` writes where the error log writes."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.validate import ErrorWrapper

import pytest

from cyhorn.log.errors_stream import WSGIErrors
from cyhorn.log.logger import Logger


def test_text_goes_as_it_is_to_the_error_log_s_file(cfg: Any) -> None:
    Logger(cfg)
    errors = WSGIErrors(cfg)
    assert errors.write("one") == 3
    assert errors.write("") == 0
    errors.writelines(["\ntwo\n", "three é \udce9"])
    errors.flush()
    print("!", file=errors)
    assert Path(cfg.errorlog).read_bytes() == "one\ntwo\nthree é \\udce9!\n".encode()


def test_text_goes_to_standard_error(make_cfg: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    cfg = make_cfg(errorlog="-")
    Logger(cfg)
    WSGIErrors(cfg).write("line\n")
    assert capfd.readouterr() == ("", "line\n")


def test_text_goes_to_the_standard_error_of_the_moment(
    make_cfg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_cfg(errorlog="-")
    Logger(cfg)
    errors = WSGIErrors(cfg)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    errors.write("line\n")
    assert sys.stderr.getvalue() == "line\n"  # type: ignore[attr-defined]


def test_text_follows_a_reopened_log_and_added_handlers(cfg: Any) -> None:
    logger = Logger(cfg)
    errors = WSGIErrors(cfg)
    path = Path(cfg.errorlog)
    path.rename(path.with_suffix(".1"))
    logger.reopen_files()
    added = io.StringIO()
    logger.error_log.addHandler(logging.StreamHandler(added))
    logger.error_log.addHandler(logging.NullHandler())
    errors.write("line\n")
    assert (path.read_text(), path.with_suffix(".1").read_text(), added.getvalue()) == (
        "line\n",
        "",
        "line\n",
    )


def test_a_stream_that_cannot_be_written_stops_nothing(
    cfg: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cfg.errorlog = "/dev/full"
    logger = Logger(cfg)
    closed = io.StringIO()
    closed.close()
    logger.error_log.addHandler(logging.StreamHandler(closed))
    kept = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    logger.error_log.addHandler(logging.StreamHandler(kept))
    errors = WSGIErrors(cfg)
    for _ in range(3):
        errors.write("é")
    assert kept.buffer.getvalue() == rb"\xe9\xe9\xe9"
    said = capfd.readouterr().err
    assert said.count("/dev/full") == 1
    assert said.count("StringIO") == 1


def test_no_standard_error_stops_nothing(
    make_cfg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_cfg(errorlog="-")
    monkeypatch.setattr(sys, "stderr", None)
    Logger(cfg)
    assert WSGIErrors(cfg).write("line") == 4


def test_the_application_cannot_close_it(cfg: Any) -> None:
    Logger(cfg)
    errors = WSGIErrors(cfg)
    with errors:
        pass
    errors.close()
    errors.write("line\n")
    assert not errors.closed
    assert Path(cfg.errorlog).read_text() == "line\n"


def test_it_is_a_text_stream_in_the_sense_of_pep_3333(cfg: Any) -> None:
    Logger(cfg)
    errors = WSGIErrors(cfg)
    wrapper = ErrorWrapper(errors)
    wrapper.write("line\n")
    wrapper.writelines(["more\n"])
    wrapper.flush()
    assert errors.writable() and not errors.readable() and not errors.isatty()
    assert errors.encoding == "utf-8"
    with pytest.raises(TypeError):
        errors.write(b"bytes")  # type: ignore[arg-type]
    assert Path(cfg.errorlog).read_text() == "line\nmore\n"
