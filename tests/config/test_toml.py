"""Config files in TOML: the same names and the same errors, with file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cyhorn.config import load as sources
from cyhorn.config.config import Config
from cyhorn.config.toml_file import has_table, lines_of, read_toml
from cyhorn.errors import ConfigError

FILE = """\
# a comment with workers = 9
bind = ["127.0.0.1:80", "unix:/run/x"]
workers = 3
reload = true
client_body_timeout = 2.5
limit_request_body = "2M"
access_log_format = '''
workers = 7
'''
raw_env = [
  "A=1",
  "workers = 8",
]
"keepalive" = 5
logconfig_dict.version = 1

[secure_scheme_headers]
X-FORWARDED-PROTO = "https"
"""


def load(path: Path, text: str) -> Config:
    path.write_text(text)
    cfg = Config()
    sources.read_config(str(path)).apply(cfg)
    return cfg


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "conf.toml"


def refusal(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


def test_the_names_are_those_of_python_files(conf: Path) -> None:
    cfg = load(conf, FILE)
    assert cfg.bind == ["127.0.0.1:80", "unix:/run/x"]
    assert (cfg.workers, cfg.reload, cfg.client_body_timeout) == (3, True, 2.5)
    assert cfg.limit_request_body == 2 << 20
    assert (cfg.raw_env, cfg.keepalive) == (["A=1", "workers = 8"], 5)
    assert cfg.access_log_format == "workers = 7"
    assert cfg.secure_scheme_headers == {"X-FORWARDED-PROTO": "https"}
    assert cfg.logconfig_dict == {"version": 1}
    assert cfg.warnings() == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("bind", 2),
        ("workers", 3),
        ("access_log_format", 7),
        ("raw_env", 10),
        ("keepalive", 14),
        ("logconfig_dict", 15),
        ("secure_scheme_headers", 17),
    ],
)
def test_the_source_of_a_value_is_file_and_line(conf: Path, name: str, line: int) -> None:
    assert load(conf, FILE).settings[name].source == f"{conf}:{line}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_counted_whatever_ends_them(end: str) -> None:
    text = FILE.replace("\n", end).replace("\r\n", "\n")
    assert lines_of(text)[("secure_scheme_headers", "X-FORWARDED-PROTO")] == 18


def test_arrays_of_tables_have_lines_too() -> None:
    assert lines_of("[[a.b]]\nx = 1\n[[a.b]]\ny = 2\n") == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "x"): 2,
        ("a", "b", "y"): 4,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 2\nworkrs = 3\n", "conf.toml:2: there is no setting 'workrs'; did you mean workers"),
        ("workrs = 3\n\n[tmeout]\n", "conf.toml:3: there is no setting 'tmeout'; did you mean timeout"),
        ("\nworkers = 'many'\n", "workers = 'many' (conf.toml:2): use a whole number"),
        ("workers = 1979-05-27\n", "conf.toml:1): use a whole number"),
        ("workers = 2\nbind = = 3\n", "conf.toml:2: Invalid value"),
        ("workers = [\n", "config file is not TOML: conf.toml:"),
        ("workers = 1\nworkers = 2\n", "conf.toml:2: Cannot overwrite a value"),
        ("post_fork = 'no_such_module:f'\n", "post_fork = 'no_such_module:f' (conf.toml:1)"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_line(conf: Path, text: str, words: str) -> None:
    assert words in refusal(conf, text)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        read_toml(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"proc_name = 'caf\xe9'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_toml(str(tmp_path / "latin.toml"))


def test_hooks_are_texts(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (conf.parent / "lib").mkdir()
    (conf.parent / "lib" / "toml_hooks.py").write_text(
        "def fork(server, worker): pass\n"
    )
    text = f"when_ready = 'toml_hooks:fork'\npythonpath = '{conf.parent}/lib'\n"
    assert "it takes other parameters" in refusal(conf, text)
    cfg = load(conf, f"post_fork = 'toml_hooks:fork'\npre_fork = 'toml_hooks.fork'\n{text.splitlines()[1]}\n")
    assert cfg.post_fork is cfg.pre_fork is sys.modules["toml_hooks"].fork
    del sys.modules["toml_hooks"]


# -- pyproject.toml -------------------------------------------------------------------------------


def test_of_a_pyproject_only_its_table_counts(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    text = "[project]\n\n[tool.cyhorn]\n\nworkers = 4\n[tool.cyhorn.logconfig_dict]\nversion = 1\n"
    cfg = load(path, text)
    assert (cfg.workers, cfg.settings["workers"].source) == (4, f"{path}:5")
    assert cfg.settings["logconfig_dict"].source == f"{path}:6"
    wrong = refusal(path, text.replace("workers", "wrkers"))
    assert "pyproject.toml:5: there is no setting 'wrkers'" in wrong


def test_a_pyproject_without_the_table_is_refused_when_named(tmp_path: Path) -> None:
    assert "it has no table [tool.cyhorn]" in refusal(tmp_path / "pyproject.toml", "[tool.black]\n")


@pytest.mark.parametrize(
    ("text", "configures"),
    [
        ("[tool.cyhorn]\n", True),
        ("tool = {cyhorn = {workers = 2}}\n", True),
        ("[tool.black]\n", False),
        ("[project]\ndependencies = ['cyhorn']\n", False),
        ("[tool.cyhorn]\nworkers = = 2\n", True),
        ("[project\n# cyhorn\n", False),
    ],
)
def test_a_pyproject_configures_cyhorn_when_it_has_its_table(
    tmp_path: Path, text: str, configures: bool
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert has_table(str(tmp_path / "pyproject.toml")) is configures
    found = sources.discover(str(tmp_path))
    assert (found is not None) is configures


def test_config_files_are_found_in_this_order(tmp_path: Path) -> None:
    names = ["gunicorn.conf.py", "pyproject.toml", "cyhorn.toml", "cyhorn.conf.py"]
    for name in names:
        (tmp_path / name).write_text("[tool.cyhorn]\n" if name == "pyproject.toml" else "")
        assert sources.discover(str(tmp_path)) == str(tmp_path / name)
