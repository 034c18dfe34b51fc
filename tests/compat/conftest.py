"""The fixtures: Gunicorn, and the accounts of each deployment under every server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat.deployment import Account, Deployment
from tests.compat.scripts import IMPORTS_GUNICORN, PREPARE, SCRIPTS
from tests.compat.servers import Kind, install_gunicorn, install_tools
from tests.conftest import BUILD_COMMAND, build_script, sides, stale_modules

Accounts = Callable[[str], dict[str, Account]]


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both servers' commands."""
    install_gunicorn()
    return install_tools(tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="session")
def kinds(pytestconfig: pytest.Config) -> list[Kind]:
    """Gunicorn, and cyhorn with each side under test."""
    chosen = sides(pytestconfig)
    if "compiled" in chosen and (stale := stale_modules(build_script())):
        pytest.exit(f"stale build ({', '.join(stale)}): run {BUILD_COMMAND}", returncode=4)
    return [Kind("gunicorn"), *(Kind("cyhorn", side) for side in chosen)]


@pytest.fixture(scope="session")
def accounts(tools: Path, kinds: list[Kind], tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    """``accounts(name)``: what the deployment did, by ``str(kind)``. All kinds run at the same time, once."""
    running: dict[str, dict[str, Future[Account]]] = {}

    def accounts_of(name: str) -> dict[str, Account]:
        if name not in running:
            folder = tmp_path_factory.mktemp(name)
            with ThreadPoolExecutor(len(kinds)) as pool:
                running[name] = {
                    str(kind): pool.submit(account_of, name, kind, folder, tools) for kind in kinds
                }
        return {kind: account.result() for kind, account in running[name].items()}

    return accounts_of


def account_of(name: str, kind: Kind, folder: Path, tools: Path) -> Account:
    """Run a deployment by its script."""
    variables = {}
    if kind.name == "cyhorn" and name in IMPORTS_GUNICORN:
        variables["CYHORN_GUNICORN_COMPAT"] = "true"
    deployment = Deployment(name, kind, folder / str(kind), tools, variables, PREPARE.get(name))
    try:
        SCRIPTS[name](deployment)
        return deployment.account()
    finally:
        deployment.destroy()
