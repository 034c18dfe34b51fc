"""Acceptance suites: real frameworks and real services under cyhorn. `make apps` runs them, `make test` does not.

A test that takes `serve` (servers of its own) or `serve_shared` (servers for a module's tests) runs once for
each `Variant`: worker class, preload on or off, side under test (``--impl``). Its axes can be narrowed or
changed by marks of the test or of its module::

    @pytest.mark.workers("gevent")     these worker classes instead of sync and gthread
    @pytest.mark.preload(False)        these values of preload_app instead of both

The servers are those of tests/integration/harness.py: a log with warnings, errors or tracebacks that nobody waited
for or announced (`provokes`) is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import sides
from tests.integration.conftest import starter
from tests.integration.harness import Server

WORKERS = ("sync", "gthread")
PRELOAD = (False, True)

#: app.py of a server whose application is `app` of a module.
APPLICATION = """\
import os
from {module} import app
os.write(1, b"LOADED in %d\\n" % os.getpid())
"""


class Variant(NamedTuple):
    """One way to run an application: the worker class, `preload_app`, and the side (CYHORN_IMPL)."""

    worker: str
    preload: bool
    side: str

    @property
    def name(self) -> str:
        return f"{self.worker}-{'preloaded' if self.preload else 'loaded'}-{self.side}"

    def arguments(self, workers: int, threads: int) -> list[str]:
        """The flags of this variant. `threads` are those of a gthread worker."""
        flags = ["--workers", str(workers)]
        if self.worker == "gthread":
            flags += ["--threads", str(threads)]
        return [*flags, *(["--preload"] if self.preload else [])]


#: ``serve(config, module=..., workers=2, threads=4, **options of Server)``: a server that is ready.
Serve = Callable[..., Server]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" not in metafunc.fixturenames:
        return
    workers = metafunc.definition.get_closest_marker("workers")
    preload = metafunc.definition.get_closest_marker("preload")
    axes = (
        workers.args if workers else WORKERS,
        preload.args if preload else PRELOAD,
        sides(metafunc.config),
    )
    variants = [Variant(*values) for values in product(*axes)]
    metafunc.parametrize(
        "variant", variants, indirect=True, ids=[variant.name for variant in variants], scope="session"
    )


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest) -> Variant:
    """The way of running under test."""
    chosen: Variant = request.param
    return chosen


@contextmanager
def serving(
    variant: Variant,
    folder: Path,
    config: str | None = "",
    *,
    module: str = "",
    workers: int = 2,
    threads: int = 4,
    request: pytest.FixtureRequest | None = None,
    provokes: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Server]:
    """A server of `variant` in `folder`, ready, and stopped with status 0 at the end of the block.

    Its application is ``app`` of `module` (dotted, importable from the root of the tree), else `folder`/app.py, which
    writes "LOADED in <pid>" when it is loaded and answers ``/`` with 200 and a Content-Length. `options` are `Server`'s;
    `arguments` among them come behind the flags of the variant. `provokes` are patterns of expected incidents.
    """
    if module:
        (folder / "app.py").write_text(APPLICATION.format(module=module))
    arguments = [*variant.arguments(workers, threads), *options.pop("arguments", ())]
    with contextmanager(starter)(f"{variant.worker}-{variant.side}", folder, request) as start:
        server = start(config, arguments=arguments, **options)
        server.expect(*provokes)
        server.ready(workers)
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0, server.log()


@pytest.fixture
def serve(variant: Variant, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Servers of one test: see `serving`."""
    with ExitStack() as running:
        yield lambda *args, **options: running.enter_context(
            serving(variant, tmp_path, *args, request=request, **options)
        )


@pytest.fixture(scope="module")
def serve_shared(variant: Variant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Servers that a module's tests share, each in a folder of its own or in ``folder=``: see `serving`."""
    with ExitStack() as running:

        def start(*args: Any, folder: Path | None = None, **options: Any) -> Server:
            where = folder or tmp_path_factory.mktemp("apps")
            return running.enter_context(serving(variant, where, *args, **options))

        yield start
