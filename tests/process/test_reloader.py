"""Both engines of the reloader notice what matters, nothing else, and once."""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import sys
import threading

import pytest

from cyhorn.errors import ConfigError
from cyhorn.process import reloader as module
from cyhorn.process.reloader import InotifyReloader, PollReloader, auto_reloader, make_reloader, source_of

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
ENGINES = [PollReloader, pytest.param(InotifyReloader, marks=linux)]


class Watch:
    """A running reloader that looks often, and what it called back with."""

    def __init__(self, engine, *extra_files):
        self.changes = queue.Queue()
        self.reloader = engine([str(name) for name in extra_files], self.changes.put, 0.01)
        self.rounds = threading.Semaphore(0)
        extras = self.reloader._changed_extra

        def counted():
            self.rounds.release()
            return extras()

        self.reloader._changed_extra = counted
        self.reloader.start()
        self.pass_rounds()

    def pass_rounds(self):
        """Wait until everything before this call has been looked at."""
        for _ in range(3):
            assert self.rounds.acquire(timeout=10)
        while self.rounds.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self.rounds.acquire(timeout=10)

    def changed(self):
        name = self.changes.get(timeout=10)
        self.reloader.join(10)
        assert not self.reloader.is_alive()
        assert self.changes.empty()
        return name

    def assert_quiet(self):
        self.pass_rounds()
        assert self.reloader.is_alive()
        assert self.changes.empty()


@pytest.fixture(params=ENGINES)
def watch(request):
    watches = []

    def start(*extra_files):
        watches.append(Watch(request.param, *extra_files))
        return watches[-1]

    yield start
    for started in watches:
        started.reloader.stop()
        assert not started.reloader.is_alive()


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Import a new module from a folder of its own; returns its file."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = []

    def load(name, folder=tmp_path):
        path = folder / f"{name}.py"
        path.write_text("value = 1\n")
        importlib.invalidate_caches()
        importlib.import_module(name)
        names.append(name)
        return path

    yield load
    for name in names:
        del sys.modules[name]


def replace(path, text):
    """Change a file as careful editors do."""
    new = path.with_name(path.name + "~new")
    new.write_text(text)
    os.replace(new, path)


def test_a_changed_module_is_reported_once_and_the_thread_ends(watch, imported):
    path = imported("reload_written")
    watching = watch()
    path.write_text("value = 22\n")
    assert watching.changed() == str(path)


def test_a_replaced_module_is_reported(watch, imported):
    path = imported("reload_replaced")
    watching = watch()
    replace(path, "value = 2\n")
    assert watching.changed() == str(path)


def test_a_touched_module_is_reported(watch, imported):
    path = imported("reload_touched")
    watching = watch()
    os.utime(path, (1, 1))
    assert watching.changed() == str(path)


def test_a_module_that_vanishes_is_waited_for(watch, imported):
    path = imported("reload_vanished")
    watching = watch()
    path.unlink()
    watching.assert_quiet()
    path.write_text("value = 22\n")
    assert watching.changed() == str(path)


def test_a_module_imported_later_is_watched_too(watch, imported):
    watching = watch()
    path = imported("reload_later")
    watching.assert_quiet()
    path.write_text("value = 22\n")
    assert watching.changed() == str(path)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fails", [False, True])
def test_a_module_that_changes_between_its_import_and_the_start_is_reported(engine, fails, imported, tmp_path):
    changes = queue.Queue()
    reloader = engine([], changes.put, 0.01)
    path = tmp_path / "reload_meanwhile.py"
    reloader.watch_imports()
    if fails:
        path.write_text("value = = 1\n")
        with pytest.raises(SyntaxError):
            importlib.import_module("reload_meanwhile")
    else:
        imported("reload_meanwhile")
    replace(path, "value = 22\n")
    reloader.add_extra_file(str(path))
    reloader.start()
    try:
        assert changes.get(timeout=10) == str(path)
    finally:
        reloader.stop()


def test_watching_imports_ends_with_the_start_and_finds_nothing_itself(imported, tmp_path):
    before = list(sys.meta_path)
    reloader = PollReloader([], print, 10)
    reloader.watch_imports()
    assert importlib.util.find_spec("reload_nowhere") is None
    imported("reload_found")
    reloader.start()
    reloader.stop()
    assert sys.meta_path == before


def test_other_files_beside_a_module_reload_nothing(watch, imported, tmp_path):
    imported("reload_beside")
    watching = watch()
    log = tmp_path / "access.log"
    for line in range(50):
        with open(log, "a") as file:
            file.write(f"{line}\n")
    log.rename(tmp_path / "access.log.1")
    (tmp_path / "reload_beside.py~").write_text("backup")
    (tmp_path / "unrelated.py").write_text("x = 1")
    watching.assert_quiet()


def test_reading_and_opening_without_a_change_reload_nothing(watch, imported):
    path = imported("reload_read")
    watching = watch()
    path.read_text()
    with open(path, "a"):
        pass
    watching.assert_quiet()


def test_an_extra_file_is_watched(watch, tmp_path):
    extra = tmp_path / "settings.toml"
    extra.write_text("a = 1")
    watching = watch(extra)
    extra.write_text("a = 22")
    assert watching.changed() == str(extra)


def test_an_extra_file_may_come_later(watch, tmp_path):
    extra = tmp_path / "settings.toml"
    watching = watch(extra)
    watching.assert_quiet()
    extra.write_text("a = 1")
    assert watching.changed() == str(extra)


def test_an_extra_file_in_a_folder_that_comes_later(watch, tmp_path):
    extra = tmp_path / "conf" / "settings.toml"
    watching = watch(extra)
    extra.parent.mkdir()
    watching.assert_quiet()
    extra.write_text("a = 1")
    assert watching.changed() == str(extra)


def test_files_of_a_pattern_are_watched_and_new_ones_count(watch, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    old = tmp_path / "deep" / "er" / "a.html"
    old.write_text("a")
    pattern = tmp_path / "**" / "*.html"
    watching = watch(pattern)
    (tmp_path / "a.txt").write_text("no html")
    watching.assert_quiet()
    old.write_text("aa")
    assert watching.changed() == str(old)
    watching = watch(pattern)
    new = tmp_path / "b.html"
    new.write_text("b")
    assert watching.changed() == str(new)


def test_the_target_of_a_link_is_watched(watch, tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "settings"
    target.write_text("a")
    link = tmp_path / "settings"
    link.symlink_to(target)
    watching = watch(link)
    target.write_text("aa")
    assert watching.changed() == str(link)


def test_a_folder_that_is_replaced_is_watched_again(watch, imported, tmp_path, monkeypatch):
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    path = imported("reload_moved", folder)
    watching = watch()
    folder.rename(tmp_path / "old")
    watching.assert_quiet()
    folder.mkdir()
    watching.assert_quiet()
    path.write_text("value = 3\n")
    assert watching.changed() == str(path)


def test_a_file_added_while_running_is_watched_from_then_on(watch, tmp_path):
    (tmp_path / "old.html").write_text("a")
    extra = tmp_path / "broken.py"
    extra.write_text("def")
    watching = watch()
    watching.reloader.add_extra_file(str(extra))
    watching.reloader.add_extra_file(str(tmp_path / "*.html"))
    watching.assert_quiet()
    extra.write_text("def f(): pass")
    assert watching.changed() == str(extra)


def test_stop_ends_a_reloader_that_saw_nothing(watch):
    watching = watch()
    watching.reloader.stop()
    assert not watching.reloader.is_alive()
    watching.reloader.stop()
    assert watching.changes.empty()


@pytest.mark.parametrize("engine", ENGINES)
def test_stop_before_start_is_harmless(engine):
    engine([], print).stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reloader_may_be_stopped_by_its_own_callback(engine, tmp_path):
    extra = tmp_path / "x"
    extra.write_text("a")
    done = threading.Event()

    def callback(_):
        reloader.stop()
        done.set()

    reloader = engine([str(extra)], callback, 0.01)
    reloader.start()
    extra.write_text("aa")
    assert done.wait(10)
    reloader.join(10)
    assert not reloader.is_alive()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_change_right_after_the_start_is_not_missed(engine, tmp_path):
    extra = tmp_path / "x"
    for round_ in range(20):
        extra.write_text("a" * (round_ + 1))
        changes = queue.Queue()
        reloader = engine([str(extra)], changes.put, 0.01)
        reloader.start()
        extra.write_text("a" * (round_ + 2))
        assert changes.get(timeout=10) == str(extra)
        reloader.join(10)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reloader_does_not_keep_the_process(engine):
    assert engine([], print).daemon


@linux
def test_inotify_wakes_at_once_without_looking_often(tmp_path):
    extra = tmp_path / "x"
    extra.write_text("a")
    changes = queue.Queue()
    reloader = InotifyReloader([str(extra)], changes.put, 3600)
    watched = threading.Event()
    add = reloader._inotify.add_watch

    def adding(folder):
        result = add(folder)
        if folder == str(tmp_path):
            watched.set()
        return result

    reloader._inotify.add_watch = adding
    reloader.start()
    assert watched.wait(10)
    extra.write_text("aa")
    assert changes.get(timeout=10) == str(extra)
    reloader.join(10)


@linux
def test_inotify_sleeps_until_stopped_without_looking_often():
    reloader = InotifyReloader([], print, 3600)
    reloader.start()
    reloader.stop()
    assert not reloader.is_alive()


@linux
def test_folders_beyond_the_kernels_limit_are_looked_at(tmp_path, monkeypatch):
    def full(_self, _folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Inotify, "add_watch", full)
    extra = tmp_path / "x"
    extra.write_text("a")
    watching = Watch(InotifyReloader, extra)
    extra.write_text("aa")
    assert watching.changed() == str(extra)


@linux
def test_an_overflow_of_events_makes_it_look_at_everything(tmp_path, monkeypatch):
    extra = tmp_path / "x"
    extra.write_text("a")
    reloader = InotifyReloader([str(extra)], print)
    reloader._first_look()
    assert reloader._refresh() is None
    monkeypatch.setattr(module.Inotify, "read", lambda self: iter([(-1, module.IN_Q_OVERFLOW, "")]))
    assert reloader._take_events() is None
    extra.write_text("aa")
    assert reloader._take_events() == str(extra)


def test_auto_falls_back_to_looking(monkeypatch):
    def broken(_self):
        raise OSError(24, "Too many open files")

    if sys.platform.startswith("linux"):
        assert isinstance(auto_reloader([], print), InotifyReloader)
    monkeypatch.setattr(module.Inotify, "__init__", broken)
    monkeypatch.setattr(module.Inotify, "__del__", lambda self: None)
    assert isinstance(auto_reloader([], print), PollReloader)
    with pytest.raises(ConfigError, match="reload_engine: 'inotify' does not work here: Too many open files"):
        make_reloader("inotify", [], print)


def test_engines_are_chosen_by_name():
    assert isinstance(make_reloader("poll", None, print), PollReloader)
    with pytest.raises(ConfigError, match="reload_engine: 'watchman' is none of auto, poll, inotify"):
        make_reloader("watchman", None, print)


def test_a_compiled_file_stands_for_its_source(tmp_path):
    source = tmp_path / "a.py"
    source.touch()
    assert source_of(str(tmp_path / "a.pyc")) == str(source)
    assert source_of(str(tmp_path / "b.pyc")) == str(tmp_path / "b.pyc")
    assert source_of(str(tmp_path / "c.so")) == str(tmp_path / "c.so")


def test_a_file_that_appears_while_the_watches_are_refreshed_is_not_taken_for_an_old_one(tmp_path):
    reloader = InotifyReloader([str(tmp_path / "*.html")])
    reloader._first_look()
    (tmp_path / "new.html").write_text("new")
    assert reloader._refresh() is None
    assert reloader._changed_extra() == str(tmp_path / "new.html")
