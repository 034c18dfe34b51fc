"""From "module:app" to the callable: all forms, and clear words for all mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyhorn.errors import EXIT_APP_LOAD, EXIT_BOOT, AppImportError
from cyhorn.wsgi.load import load_application

SHOP = """
class Site:
    def wsgi(self, environ, start_response): return [b'site']

site = Site()
nothing = None
number = 3

def app(environ, start_response): return [b'app']
def application(environ, start_response): return [b'application']

def create_app(name='x', *, debug=False):
    def made(environ, start_response): return [repr((name, debug)).encode()]
    return made

def broken_factory():
    return len(3)

def returns_none(): pass
"""


@pytest.fixture(autouse=True)
def shop(project: Path) -> Path:
    (project / "shop.py").write_text(SHOP)
    (project / "empty.py").write_text("app = 3\n")
    (project / "needs.py").write_text("import no_such_dependency\n")
    (project / "pack").mkdir()
    (project / "pack" / "__init__.py").touch()
    (project / "pack" / "wsgi.py").write_text("def application(e, s): return [b'pack']\n")
    (project / "pack" / "sick.py").write_text("from pack import nothing_of_the_kind\n")
    (project / "bad.py").write_text("def app(:\n")
    return project


@pytest.mark.parametrize(
    ("spec", "body"),
    [
        ("shop", b"application"),
        ("shop:app", b"app"),
        ("shop:site.wsgi", b"site"),
        ("pack.wsgi", b"pack"),
        ("shop:create_app()", b"('x', False)"),
        ("shop:create_app('y', debug=True)", b"('y', True)"),
        ("shop:create_app([1, {'a': -2}])", b"([1, {'a': -2}], False)"),
        ("shop: app", b"app"),
    ],
)
def test_a_spec_names_its_application(spec: str, body: bytes) -> None:
    assert load_application(spec)({}, None) == [body]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shop:ap", "module 'shop' has no attribute 'ap'; did you mean app"),
        ("shop:create", "did you mean create_app"),
        ("empty", "no attribute 'application'; did you mean app?"),
        ("shop:site.wsgy", "shop:site has no attribute 'wsgy'; did you mean wsgi?"),
        ("shop:nothing", "is None"),
        ("shop:number", "not callable: it is of type int"),
        ("shop:returns_none()", "is None"),
        ("shop:number()", "cannot be called"),
        ("shop:create_app(1, 2)", "positional"),
        ("shop:create_app(colour=1)", "unexpected keyword argument 'colour'"),
        ("shop:create_app(app)", "literals"),
        ("shop:create_app(**{})", "literals"),
        ("shop:create_app(", "neither a name nor a call"),
        ("shop:app[0]", "neither a name nor a call"),
        ("shop:", "after the colon"),
        (":app", "no module"),
        ("shop/app.py", "did you mean shop.app:application?"),
        ("./shop.py:app", "did you mean shop:app?"),
    ],
)
def test_a_wrong_spec_is_one_clear_line(spec: str, words: str) -> None:
    with pytest.raises(AppImportError) as caught:
        load_application(spec)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_status == EXIT_APP_LOAD


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shopp:app", "there is no module 'shopp'; did you mean shop?"),
        ("shop.py:app", "did you mean shop:app?"),
        ("pack.wsgy", "there is no module 'pack.wsgy'"),
        ("pak.wsgi", "'pak' is missing"),
    ],
)
def test_a_module_that_is_not_there_fails_the_boot(spec: str, words: str) -> None:
    with pytest.raises(AppImportError) as caught:
        load_application(spec)
    assert words in str(caught.value)
    assert caught.value.exit_status == EXIT_BOOT


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("needs:app", ModuleNotFoundError),
        ("pack.sick:app", ImportError),
        ("bad:app", SyntaxError),
        ("shop:broken_factory()", TypeError),
    ],
)
def test_what_fails_inside_the_application_is_raised_as_it_is(spec: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        load_application(spec)
    assert not isinstance(caught.value, AppImportError)
