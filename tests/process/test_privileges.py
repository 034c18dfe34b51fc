"""Dropping root's rights: wholly, or not at all. Each drop happens in a process of its own."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys

import pytest

from cyhorn.errors import ConfigError
from cyhorn.process.privileges import check_writable, chown, is_writable, set_owner_process

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

PRELUDE = """
import grp, json, os, pwd, sys
from cyhorn.errors import ConfigError
from cyhorn.process.privileges import set_owner_process
def show():
    state = {"groups": sorted(os.getgroups())}
    if hasattr(os, "getresuid"):
        state["uids"], state["gids"] = os.getresuid(), os.getresgid()
    else:
        state["uids"], state["gids"] = [os.getuid(), os.geteuid()], [os.getgid(), os.getegid()]
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as file:
            fields = dict(line.rstrip().split(":", 1) for line in file)
        names = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapAmb")
        state["status"] = {name: fields[name].split() for name in names}
    print(json.dumps(state))
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False)
    assert not done.stderr
    return json.loads(done.stdout)


@needs_root
@pytest.mark.rule(42)
def test_after_a_drop_nothing_of_root_is_left():
    state = run("os.setgroups([0, 1, 2]); set_owner_process(65534, 65533); show()")
    assert set(state["uids"]) == {65534}
    assert set(state["gids"]) == {65533}
    assert state["groups"] == []
    if "status" in state:
        assert state["status"]["Uid"] == ["65534"] * 4
        assert state["status"]["Gid"] == ["65533"] * 4
        assert state["status"]["Groups"] == []
        for capabilities in ("CapEff", "CapPrm", "CapAmb"):
            assert int(state["status"][capabilities][0], 16) == 0


@needs_root
@pytest.mark.rule(42)
def test_there_is_no_way_back():
    assert (
        run(
            "set_owner_process(65534, 65533)\n"
            "failed = 0\n"
            "for back in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):\n"
            "    try:\n"
            "        back()\n"
            "    except PermissionError:\n"
            "        failed += 1\n"
            "print(failed)\n"
        )
        == 3
    )


@needs_root
def test_initgroups_gives_the_users_own_groups():
    user = next(
        (
            entry
            for entry in pwd.getpwall()
            if entry.pw_uid and len(os.getgrouplist(entry.pw_name, entry.pw_gid)) > 1
        ),
        pwd.getpwuid(1),
    )
    state = run(
        f"os.setgroups([0]); set_owner_process({user.pw_uid}, {user.pw_gid}, initgroups=True); show()"
    )
    assert state["groups"] == sorted(set(os.getgrouplist(user.pw_name, user.pw_gid)))
    assert set(state["uids"]) == {user.pw_uid}


@needs_root
def test_initgroups_of_a_user_without_a_name_clears_the_groups():
    state = run("os.setgroups([0]); set_owner_process(54321, 54321, initgroups=True); show()")
    assert state["groups"] == []
    assert set(state["uids"]) == {54321}


@needs_root
def test_the_group_alone_may_change():
    state = run("set_owner_process(None, 65533); show()")
    assert set(state["gids"]) == {65533}
    assert set(state["uids"]) == {0}
    assert state["groups"] == []


@needs_root
def test_the_user_alone_may_change():
    state = run("os.setgroups([0, 1]); set_owner_process(65534, os.getgid()); show()")
    assert set(state["uids"]) == {65534}
    assert set(state["gids"]) == {0}
    assert state["groups"] == []


def test_what_the_process_is_already_changes_nothing():
    before = os.getgroups()
    set_owner_process(os.geteuid(), os.getegid())
    set_owner_process(None, None)
    assert os.getgroups() == before


@pytest.mark.parametrize("target", [(0, 0), (54321, None), (None, 54321)])
def test_without_root_a_change_is_refused_in_one_line(target):
    drop = "os.setgroups([]); os.setresgid(65533, 65533, 65533); os.setresuid(65534, 65534, 65534)\n"
    said = run(
        (drop if os.geteuid() == 0 else "")
        + "try:\n"
        + f"    set_owner_process(*{target})\n"
        + "except ConfigError as error:\n"
        + "    print(json.dumps(str(error)))\n"
    )
    assert said.startswith("user, group: cannot switch to uid ")
    assert said.endswith("(only root may)")
    assert "\n" not in said


@needs_root
def test_a_file_is_given_by_path_or_descriptor(tmp_path):
    path = tmp_path / "log"
    path.touch()
    chown(str(path), 65534, 65533)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
    with open(path) as file:
        chown(file.fileno(), 0, 0)
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)


def test_a_file_of_ones_own_is_not_touched(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setattr(os, "chown", lambda *_: pytest.fail("nothing to change"))
    chown(str(path), path.stat().st_uid, path.stat().st_gid)


def test_a_file_that_can_be_made_or_opened_is_writable(tmp_path):
    existing = tmp_path / "log"
    existing.touch()
    assert is_writable(str(existing))
    assert is_writable(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    check_writable(str(existing), "errorlog")


def test_a_relative_name_is_looked_for_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_writable("new")


def test_what_cannot_be_written_is_named_with_the_setting(tmp_path):
    with pytest.raises(ConfigError, match=rf"errorlog: '{tmp_path}' is not writable: it is a directory"):
        check_writable(str(tmp_path), "errorlog")
    with pytest.raises(ConfigError, match=rf"the directory '{tmp_path}/none' does not exist"):
        check_writable(str(tmp_path / "none" / "log"), "errorlog")


def test_permissions_decide_for_those_who_are_not_root():
    code = (
        "import tempfile\n"
        "from cyhorn.process.privileges import is_writable\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    closed, path = os.path.join(folder, 'closed'), os.path.join(folder, 'log')\n"
        "    os.mkdir(closed, 0o500)\n"
        "    open(path, 'w').close()\n"
        "    os.chmod(path, 0o400)\n"
        "    paths = [path, os.path.join(closed, 'log'), os.path.join(folder, 'new')]\n"
        "    print(json.dumps([is_writable(path) for path in paths]))\n"
    )
    drop = "os.setgroups([]); os.setgid(65533); os.setuid(65534)\n" if os.geteuid() == 0 else ""
    assert run("import tempfile\nfrom cyhorn.process.privileges import is_writable\n" + drop + code) == [
        False,
        False,
        True,
    ]


def test_a_full_mode_is_not_needed_to_look(tmp_path):
    path = tmp_path / "log"
    path.touch(mode=0o600)
    is_writable(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
