"""The run under sanitizers: what kind of build it makes, and which reports count."""

from __future__ import annotations

import pytest

from fuzz.sanitize import reports
from tests.conftest import build_script

OURS = r"/tree/cyhorn/_"

LEAK_OF_OURS = """\
Direct leak of 58 byte(s) in 1 object(s) allocated from:
    #0 0x7f in __interceptor_malloc asan_malloc_linux.cpp:69
    #1 0x7f in PyUnicode_New Objects/unicodeobject.c:1438
    #2 0x7f in __pyx_f_text /tree/cyhorn/_environ.c:4200"""

LOG = f"""
=================================================================
==8423==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 144 byte(s) in 6 object(s) allocated from:
    #0 0x7f in __interceptor_malloc asan_malloc_linux.cpp:69
    #1 0x7f in traceback_new Modules/_tracemalloc.c:452

{LEAK_OF_OURS}

SUMMARY: AddressSanitizer: 202 byte(s) leaked in 7 allocation(s).
"""

OVERFLOW = """\
==9==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60 at pc 0x7f
READ of size 1 at 0x60 thread T0
    #0 0x7f in PyBytes_FromString Objects/bytesobject.c:12"""


@pytest.mark.parametrize(
    ("given", "record"),
    [
        ("1", "sanitize=address,undefined"),
        ("thread", "sanitize=thread"),
        ("0", "release"),
        ("", "release"),
        (None, "release"),
    ],
)
def test_the_record_of_a_build_names_its_sanitizers(given, record, monkeypatch):
    monkeypatch.delenv("CYHORN_DEBUG", raising=False)
    monkeypatch.delenv("CYHORN_SANITIZE", raising=False)
    if given is not None:
        monkeypatch.setenv("CYHORN_SANITIZE", given)
    setup = build_script()
    assert setup.variant() == record
    flags = [flag for flag in setup.flags()["extra_compile_args"] if flag.startswith(("-fsanitize", "-O"))]
    wanted = record.partition("=")[2]
    assert flags == (["-O1", f"-fsanitize={wanted}"] if wanted else ["-O3"])


def test_a_leak_counts_where_a_module_of_ours_asked_for_the_memory():
    assert [report.text for report in reports(LOG, OURS)] == [LEAK_OF_OURS]


def test_any_other_report_counts_whoever_made_it():
    [report] = reports(f"====\n{OVERFLOW}\n\nSUMMARY: AddressSanitizer: heap-buffer-overflow\n", OURS)
    assert report.text == OVERFLOW
    lines = "cyhorn/_loop.c:12:7: runtime error: signed integer overflow\n    #0 in a\n" * 2
    assert [report.headline for report in reports(lines, OURS)] == [lines.split("\n")[0]] * 2


def test_a_log_without_reports_has_none():
    assert list(reports("==1==WARNING: something else\n", OURS)) == []
