"""The pid file: whole or absent, stale or refused, and never another's removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyhorn.errors import ConfigError
from cyhorn.process.pidfile import Pidfile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.pid"


def test_it_holds_the_pid_and_can_be_read_by_all(path: Path) -> None:
    Pidfile(str(path)).create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("content", ["", "x", "0", "-3", "999999999", "1" * 50, "\xff\xfe"])
@pytest.mark.rule(3)
def test_what_names_no_live_process_is_taken_over(path: Path, content: str) -> None:
    path.write_text(content, encoding="latin-1")
    Pidfile(str(path)).create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_process_that_only_waits_to_be_reaped_is_not_alive(path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    path.write_text(str(ended.pid))
    Pidfile(str(path)).create(os.getpid())
    ended.wait()
    ended.stdout.close()


def test_a_live_process_is_named_and_its_file_left(path: Path) -> None:
    path.write_text(str(os.getppid()))
    with pytest.raises(ConfigError, match=f"Already running on PID {os.getppid()}"):
        Pidfile(str(path)).create(os.getpid())
    assert path.read_text() == str(os.getppid())


def test_our_own_file_is_written_again(path: Path) -> None:
    path.write_text(str(os.getpid()))
    Pidfile(str(path)).create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_directory_that_is_missing_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pidfile: cannot write '.*nowhere/pid': No such file"):
        Pidfile(str(tmp_path / "nowhere" / "pid")).create(1)


@pytest.mark.rule(2)
def test_only_our_own_file_is_removed(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.create(os.getpid())
    path.write_text("1\n")
    pidfile.unlink()
    assert path.exists()
    path.write_text(f"{os.getpid()}\n")
    pidfile.unlink()
    assert not path.exists()
    pidfile.unlink()


def test_one_that_was_never_written_removes_nothing(path: Path) -> None:
    path.write_text(f"{os.getpid()}\n")
    Pidfile(str(path)).unlink()
    assert path.exists()


def test_a_renamed_file_is_at_its_new_name_only(path: Path) -> None:
    pidfile = Pidfile(f"{path}.2")
    pidfile.create(os.getpid())
    path.write_text("999999999\n")  # what a killed predecessor has left
    pidfile.rename(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(path.parent) == [path.name]
    pidfile.unlink()
    assert not path.exists()


def test_renaming_over_a_live_process_is_refused_and_keeps_the_file(path: Path) -> None:
    pidfile = Pidfile(f"{path}.2")
    pidfile.create(os.getpid())
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(ConfigError, match="Already running"):
        pidfile.rename(str(path))
    assert Path(f"{path}.2").exists()
