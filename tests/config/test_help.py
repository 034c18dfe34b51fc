"""``--help``, completion and the man page: all made from the table, none left out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cyhorn.config import completion, help, manpage
from cyhorn.config.row import Row
from cyhorn.config.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
ROWS = [pytest.param(row, id=row.name) for row in SETTINGS.values()]
#: Defaults that are other ones than Gunicorn's, see test_table.
OTHER_DEFAULTS = ("config", "keepalive", "limit_request_line", "logger_class", "default_proc_name")


# -- help -----------------------------------------------------------------------------------------


def test_the_short_page_has_the_twenty_settings_that_people_use() -> None:
    names = [name for group in help.COMMON.values() for name in group]
    assert len(names) == len(set(names)) == 20
    page = help.short_page("usage: x", "cyhorn", commands=True)
    assert page.startswith("usage: x\n")
    for name in names:
        assert all(flag in page for flag in SETTINGS[name].flags)
    assert len(page.splitlines()) < 70 and "--help all" in page and "cyhorn migrate" in page


def test_an_embedding_program_has_no_commands() -> None:
    assert "migrate" not in help.short_page("usage: x", "framework", commands=False)


@pytest.mark.parametrize("row", ROWS)
def test_a_settings_page_has_everything_of_its_row(row: Row) -> None:
    page = help.setting_page(row)
    text = " ".join(page.split())
    assert page.startswith(f"{row.name}  ({row.section})\n")
    for part in (row.meaning, row.variable, row.env, row.kind.allowed, row.differs, row.pending, row.note):
        assert " ".join((part or "").split()) in text
    for flag in row.flags + row.no_flags:
        assert flag in text
    assert max(map(len, page.splitlines())) <= 110


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("workers", "workers"),
        ("--workers", "workers"),
        ("-w", "workers"),
        ("keep-alive", "keepalive"),
        ("KEEPALIVE", "keepalive"),
        ("CYHORN_WORKERS", "workers"),
        ("--no-sendfile", "sendfile"),
        ("worker-class", "worker_class"),
        ("-R", "enable_stdio_inheritance"),
        ("--limit-request-field-size", "limit_request_field_size"),
    ],
)
def test_a_setting_is_found_by_name_flag_and_variable(word: str, name: str) -> None:
    assert help.find(word) is SETTINGS[name]


def test_a_word_that_is_no_setting_names_the_closest() -> None:
    assert help.find("wrkers") is None
    assert "did you mean workers" in help.unknown("wrkers")
    assert "did you mean loglevel" in help.unknown("--log-levl")


@pytest.mark.parametrize("name", OTHER_DEFAULTS)
def test_another_default_than_gunicorns_is_said_to_differ(name: str) -> None:
    assert SETTINGS[name].differs


@pytest.mark.parametrize("row", ROWS)
def test_only_what_gunicorn_has_can_differ_from_it(row: Row) -> None:
    assert not (row.differs and row.scope in "NX")
    assert not row.differs.endswith(".")


# -- completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_a_script_knows_every_flag(shell: str) -> None:
    script = completion.script(shell)
    for option in completion.options():
        for flag in option.flags:
            spelled = flag
            if shell == "fish":
                spelled = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            assert re.search(rf"{re.escape(spelled)}(?![\w-])", script), flag


def complete(*words: str, folder: Path = ROOT) -> list[str]:
    """What bash proposes for the last of `words`."""
    script = completion.script("bash")
    line = " ".join(f"'{word}'" for word in ("cyhorn", *words))
    script += f'\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _cyhorn; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (("--worker-cl",), ["--worker-class"]),
        (("-k", "sy"), ["sync"]),
        (("--header-map", "d"), ["drop", "dangerous"]),
        (("app:app", "--log-level", "wa"), ["warning"]),
        (("mi",), ["migrate"]),
        (("ct",), ["ctl"]),
        (("--help", "worker_c"), ["worker_class", "worker_connections"]),
        (("--completion", ""), ["bash", "zsh", "fish"]),
        (("-w", ""), []),
    ],
)
def test_bash_completes_flags_and_what_follows_them(words: tuple[str, ...], proposed: list[str]) -> None:
    assert complete(*words) == proposed


def test_bash_completes_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    (tmp_path / "certs").mkdir()
    assert sorted(complete("--certfile", "ce", folder=tmp_path)) == ["cert.pem", "certs"]
    assert complete("--chdir", "ce", folder=tmp_path) == ["certs"]
    assert sorted(complete("migrate", "ce", folder=tmp_path)) == ["cert.pem", "certs"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_take_their_script(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(completion.script(shell))
    done = subprocess.run([program, "-n", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# -- the man page -----------------------------------------------------------------------------------


def test_the_man_page_is_made_from_the_table() -> None:
    written = (ROOT / "docs" / "cyhorn.1").read_text(encoding="utf-8")
    assert written == manpage.page(), "run: python -m cyhorn.config.manpage docs/cyhorn.1"


@pytest.mark.parametrize("row", ROWS)
def test_every_setting_is_in_the_man_page(row: Row) -> None:
    page = manpage.page()
    assert manpage.roff(row.meaning) in page
    for flag in row.flags + row.no_flags:
        assert manpage.roff(flag) in page


def test_the_man_page_is_clean_roff() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-man", "-ww", "-Tutf8", "-rLL=100n"], input=manpage.page(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    plain = re.sub(r".\x08|\x1b\[\d*m", "", done.stdout)
    assert "--limit-request-field_size" in plain and "\\=" in plain


def test_no_line_of_text_is_taken_for_a_request() -> None:
    requests = {line.split(" ")[0] for line in manpage.page().splitlines() if line[:1] in ".'"}
    assert requests <= {".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".I", ".BR", ".RB", ".RI", ".IR", ".br", ".nh", '.\\"'}
