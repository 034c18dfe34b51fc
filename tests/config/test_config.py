"""`Config`: Gunicorn's public attributes, classes by name, and what a start says."""

from __future__ import annotations

import copy
import importlib
import ipaddress
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cyhorn.config import classes
from cyhorn.config.config import Config
from cyhorn.config.settings import SETTINGS
from cyhorn.errors import ConfigError


@pytest.fixture
def cfg() -> Config:
    return Config("usage", prog="cyhorn")


def test_settings_are_attributes_and_objects(cfg: Config) -> None:
    cfg.set("workers", "3")
    setting = cfg.settings["workers"]
    assert cfg.workers == setting.value == setting.get() == 3
    assert (setting.name, setting.section, setting.default, setting.cli) == (
        "workers",
        "Worker Processes",
        1,
        ("-w", "--workers"),
    )
    setting.set(4)
    assert cfg.workers == 4


def test_an_unknown_name_is_an_attribute_error_with_the_closest(cfg: Config) -> None:
    for wrong in (lambda: cfg.wrkers, lambda: cfg.set("wrkers", 1)):
        with pytest.raises(AttributeError, match="did you mean workers"):
            wrong()


def test_a_setting_is_not_assigned(cfg: Config) -> None:
    with pytest.raises(AttributeError, match=r"cfg\.set"):
        cfg.workers = 3


def test_the_source_of_a_value_is_remembered_and_shown(cfg: Config) -> None:
    cfg.set("workers", 3, "somewhere")
    cfg.set("threads", 1)
    assert cfg.settings["workers"].source == "somewhere"
    shown = dict(line.split(" = ", 1) for line in str(cfg).splitlines())
    assert shown["workers"].startswith("3 ") and shown["workers"].endswith("# somewhere")
    assert shown["threads"].endswith("# the application")
    assert shown["backlog"].endswith("# default")
    assert set(shown) == set(SETTINGS)


def test_a_config_can_be_copied(cfg: Config) -> None:
    cfg.set("workers", 3)
    assert copy.copy(cfg).workers == 3
    assert copy.deepcopy(cfg).workers == 3


def test_addresses(cfg: Config) -> None:
    cfg.set("bind", ["127.0.0.1:80", "unix:/run/x", "fd://3", "[::1]:81"])
    assert cfg.address == [("127.0.0.1", 80), "/run/x", 3, ("::1", 81)]


def test_a_wrong_address_names_its_source(cfg: Config) -> None:
    cfg.set("bind", "localhost:http", "here:1")
    with pytest.raises(ConfigError, match=r"here:1"):
        cfg.validate()


def test_user_group_and_names(cfg: Config) -> None:
    cfg.set("user", 5)
    cfg.set("group", "6")
    assert (cfg.uid, cfg.gid, cfg.proc_name) == (5, 6, "cyhorn")
    cfg.set("default_proc_name", "app:app")
    assert cfg.proc_name == "app:app"
    cfg.set("proc_name", "shop")
    assert cfg.proc_name == "shop"


def test_environment_pairs(cfg: Config) -> None:
    cfg.set("raw_env", ["A=1", "B=x=y", "C="])
    assert cfg.env == {"A": "1", "B": "x=y", "C": ""}
    cfg.set("raw_paste_global_conf", ["a=1", r"b\=c=2\=3"])
    assert cfg.paste_global_conf == {"a": "1", "b=c": "2=3"}


@pytest.mark.parametrize(
    ("value", "expected"), [(None, True), (True, True), (False, False), ("false", False)]
)
def test_sendfile_does_what_it_is_told(cfg: Config, value: Any, expected: bool) -> None:
    cfg.set("sendfile", value)
    assert cfg.sendfile is expected


def test_networks_leave_out_everybody(cfg: Config) -> None:
    cfg.set("forwarded_allow_ips", "10.0.0.0/8,*")
    cfg.set("proxy_allow_ips", "::1")
    assert cfg.forwarded_allow_networks() == [ipaddress.ip_network("10.0.0.0/8")]
    assert cfg.proxy_allow_networks() == [ipaddress.ip_network("::1")]


def test_tls_settings(cfg: Config) -> None:
    assert not cfg.is_ssl
    cfg.set("certfile", __file__)
    assert cfg.is_ssl
    assert set(cfg.ssl_options) == {
        "keyfile",
        "certfile",
        "ssl_version",
        "cert_reqs",
        "ca_certs",
        "suppress_ragged_eofs",
        "do_handshake_on_connect",
        "ciphers",
    }
    cfg.validate()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keyfile": __file__}, "certfile too"),
        ({"certfile": "/nowhere.pem"}, "/nowhere.pem"),
        ({"certfile": __file__, "keyfile": "/nowhere.pem"}, "/nowhere.pem"),
        ({"loglevel": "inof"}, "use one of debug"),
        ({"worker_class": "gthred"}, "unknown"),
        ({"logger_class": "nothing"}, "unknown"),
    ],
)
def test_what_no_value_shows_alone_is_found(cfg: Config, settings: dict[str, Any], words: str) -> None:
    for name, value in settings.items():
        cfg.set(name, value, "here:1")
    with pytest.raises(ConfigError) as caught:
        cfg.validate()
    assert words in str(caught.value) and "here:1" in str(caught.value)


def test_another_logger_class_may_have_levels_of_its_own(cfg: Config) -> None:
    cfg.set("loglevel", "trace")
    cfg.set("logger_class", "my.Logger")
    cfg.validate()


# -- classes --------------------------------------------------------------------------------------


class Installed:
    """As much of a worker and of a logger as is looked for."""

    installed = 0

    @classmethod
    def setup(cls) -> None:
        cls.installed += 1

    install = setup
    init_process = run = notify = info = error = exception = access = reopen_files = setup


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("classes_of_a_test")
    made.Installed = Installed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "classes_of_a_test", made)
    return made


@pytest.mark.parametrize("setting", ["worker_class", "logger_class"])
@pytest.mark.parametrize("value", ["classes_of_a_test.Installed", Installed, lambda: Installed])
def test_a_class_is_found_by_path_by_itself_and_by_function(
    cfg: Config, module: ModuleType, setting: str, value: Any
) -> None:
    cfg.set(setting, value)
    before = Installed.installed
    assert getattr(cfg, setting) is Installed
    assert Installed.installed == before + 1, "setup() or install() is called"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("classes_of_a_test.Instaled", "did you mean Installed"),
        ("no_such_module.Class", "no_such_module"),
        ("egg:no-such-dist#x", "not installed"),
        ("egg:pytest#x", "no entry point"),
    ],
)
def test_a_class_that_is_not_there_is_one_line(
    cfg: Config, module: ModuleType, name: str, words: str
) -> None:
    cfg.set("worker_class", name)
    with pytest.raises(ConfigError) as caught:
        cfg.worker_class  # noqa: B018
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "group"),
    [
        ("turbo", "cyhorn.workers"),
        ("turbo", "gunicorn.workers"),
        ("#turbo", "cyhorn.workers"),
        ("egg:turbo-dist#turbo", "gunicorn.workers"),
    ],
)
def test_a_worker_is_found_by_entry_point(
    cfg: Config, module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, group: str
) -> None:
    info = tmp_path / "turbo_dist-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: turbo-dist\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nturbo = classes_of_a_test:Installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg.set("worker_class", written)
    cfg.validate()
    assert cfg.worker_class is Installed


def test_gunicorns_paths_mean_cyhorns_classes(cfg: Config) -> None:
    assert classes.WORKERS.resolve("gunicorn.workers.sync.SyncWorker") == classes.WORKERS.resolve("sync")
    assert classes.LOGGERS.resolve("gunicorn.glogging.Logger") == classes.LOGGER
    assert classes.WORKERS.resolve("egg:gunicorn#sync") == classes.WORKERS.resolve("sync")
    for name in ("simple", "gunicorn.glogging.Logger", "cyhorn.glogging.Logger", "cyhorn.log.logger.Logger"):
        cfg.set("logger_class", name)
        assert f"{cfg.logger_class.__module__}.{cfg.logger_class.__qualname__}" == classes.LOGGER


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("cyhorn.glogging.Logger", "cyhorn.log.logger.Logger"),
        ("cyhorn.glogging.SafeAtoms", "cyhorn.log.access_format.SafeAtoms"),
        ("cyhorn.glogging.CONFIG_DEFAULTS", "cyhorn.log.configuration.CONFIG_DEFAULTS"),
        ("cyhorn.instrument.statsd.Statsd", "cyhorn.log.statsd.Statsd"),
        ("cyhorn.config.Config", "cyhorn.config.config.Config"),
    ],
)
def test_an_import_in_which_only_the_word_was_replaced_finds_cyhorns_own(path: str, own: str) -> None:
    one, other = (
        getattr(importlib.import_module(module), name)
        for module, _, name in (text.rpartition(".") for text in (path, own))
    )
    assert one is other


def test_a_statsd_host_makes_a_logger_of_gunicorns_name_a_statsd_one(cfg: Config) -> None:
    cfg.set("statsd_host", "localhost")
    cfg.set("logger_class", "cyhorn.glogging.Logger")
    assert f"{cfg.logger_class.__module__}.{cfg.logger_class.__qualname__}" == classes.STATSD


def test_a_statsd_host_makes_the_default_logger_a_statsd_one(cfg: Config, module: ModuleType) -> None:
    cfg.set("statsd_host", "localhost")
    assert f"{cfg.logger_class.__module__}.{cfg.logger_class.__qualname__}" == classes.STATSD
    cfg.set("logger_class", "classes_of_a_test.Installed")
    assert cfg.logger_class is Installed


@pytest.mark.parametrize("name", ["sync", "cyhorn.workers.sync.SyncWorker"])
def test_sync_with_threads_is_gthread(cfg: Config, name: str) -> None:
    cfg.set("worker_class", name)
    assert cfg.worker_class_str == name
    cfg.set("threads", 2)
    assert cfg.worker_class_str == "gthread"


def test_other_workers_keep_their_threads(cfg: Config) -> None:
    cfg.set("threads", 2)
    cfg.set("worker_class", "my.Worker")
    assert cfg.worker_class_str == "my.Worker"
    cfg.set("worker_class", Installed)
    assert cfg.worker_class_str == "Installed"


@pytest.mark.parametrize("name", ["eventlet", "tornado", "asgi", "gunicorn.workers.gtornado.TornadoWorker", "uvicorn.workers.UvicornWorker"])
def test_workers_that_will_not_come_say_why_and_what_instead(cfg: Config, name: str) -> None:
    cfg.set("worker_class", name, "here:1")
    with pytest.raises(ConfigError, match=r"not served: .* use .*here:1"):
        cfg.validate()


@pytest.mark.parametrize("name", [*classes.GEVENT, "egg:gunicorn#gevent", "gunicorn.workers.ggevent.GeventWorker"])
def test_all_names_of_the_gevent_worker_stand_for_one_class(cfg: Config, name: str) -> None:
    cfg.set("worker_class", name, "here:1")
    cfg.validate()
    assert classes.is_gevent(name) and classes.WORKERS.resolve(name) == "cyhorn.workers.ggevent.GeventWorker"
    told = [line for line in cfg.notices() if "this is the gevent worker" in line]
    assert bool(told) == (name in ("gevent_wsgi", "gevent_pywsgi"))


@pytest.mark.parametrize("name", ["sync", "gthread", "geventt", "my.gevent.Worker", None, Config])
def test_no_other_class_is_the_gevent_worker(name: object) -> None:
    assert not classes.is_gevent(name)


# -- what a start says ----------------------------------------------------------------------------


def test_a_start_with_defaults_has_nothing_to_say(cfg: Config) -> None:
    assert cfg.warnings() == [] and cfg.notices() == []


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"reload": True, "preload_app": True}, ["reload (here:1) and preload_app (here:1)"]),
        ({"daemon": True}, ["errorlog (default) and daemon (here:1)"]),
        ({"daemon": True, "accesslog": "-", "errorlog": "x.log"}, ["accesslog (here:1) and daemon (here:1)"]),
        ({"daemon": True, "enable_stdio_inheritance": True}, []),
        ({"daemon": True, "errorlog": "x.log"}, []),
        ({"reload": True}, []),
        ({"cert_reqs": 2, "certfile": "c.pem"}, ["cert_reqs (here:1) and ca_certs (default)"]),
        ({"cert_reqs": 2}, ["cert_reqs (here:1)"]),
        ({"ca_certs": "ca.pem", "ciphers": "x"}, ["ca_certs (here:1) and ciphers (here:1)"]),
        ({"workers": 0}, ["workers = 0 (here:1)"]),
        ({"max_requests_jitter": 5}, ["max_requests_jitter (here:1) and max_requests (default)"]),
        ({"max_requests_jitter": 5, "max_requests": 5}, []),
        (
            {"logconfig": "a.ini", "logconfig_dict": {"version": 1}},
            ["logconfig_dict (here:1) and logconfig (here:1)"],
        ),
        (
            {"statsd_host": "localhost", "logger_class": type("Own", (Installed,), {})},
            ["statsd_host (here:1) and logger_class (here:1)"],
        ),
        ({"statsd_host": "localhost", "logger_class": "cyhorn.log.statsd.Statsd"}, []),
        ({"statsd_host": "localhost", "logger_class": "gunicorn.glogging.Logger"}, []),
        ({"statsd_host": "localhost"}, []),
        ({"cert_reqs": 2, "certfile": "c.pem", "ca_certs": "ca.pem"}, []),
        ({"cert_reqs": 2, "certfile": "c.pem", "ssl_context": lambda config, factory: factory()}, []),
    ],
)
def test_settings_that_defeat_each_other_are_warned_about(
    cfg: Config, settings: dict[str, Any], names: list[str]
) -> None:
    for name, value in settings.items():
        cfg.set(name, value, "here:1")
    assert [line.split(": ")[0] for line in cfg.warnings()] == names


@pytest.mark.parametrize(("worker", "told"), [("sync", True), ("some.other.Worker", False)])
def test_worker_connections_are_none_of_a_sync_workers_business(cfg: Config, worker: str, told: bool) -> None:
    cfg.set("worker_connections", 5, "here:1")
    cfg.set("worker_class", worker)
    assert [line.startswith("worker_connections (here:1)") for line in cfg.notices()] == [True] * told


@pytest.mark.parametrize("name", [name for name, row in SETTINGS.items() if row.pending or row.note])
def test_a_setting_that_is_not_delivered_says_so_when_it_is_used(cfg: Config, name: str) -> None:
    row = SETTINGS[name]
    if "Hooks" in row.section:
        value: Any = "os.path.samefile" if row.kind.allowed.count(",") else "os.path.basename"
    else:
        candidates = (
            5,
            70000,
            True,
            "text",
            "10.0.0.1",
            "fast",
            "uwsgi",
            "h2",
            "both",
            "uvloop",
            "on",
            ["a=b"],
        )
        value = next(
            one for one in candidates if taken(row.kind, one) and row.kind(one) != row.kind(row.default)
        )
    cfg.set(name, value, "here:1")
    (line,) = cfg.warnings() if row.pending else cfg.notices()
    assert name in line and "here:1" in line and (row.pending or row.note) in line


def taken(kind: Any, value: Any) -> bool:
    try:
        kind(value)
    except Exception:
        return False
    return True
