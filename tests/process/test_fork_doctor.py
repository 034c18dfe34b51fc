"""What the fork doctor names, in which words, and what it leaves alone."""

from __future__ import annotations

import gc
import importlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyhorn.process.fork_doctor import FORK_AWARE, ForkDoctor

#: The applications of these tests leave their sockets open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

ADVICE = ". Open it after the fork: in post_fork, or at the first use"

#: A library, as those that applications use are: a client with a pool of connections and a thread.
LIBRARY = """\
import socket, threading

class Connection:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))

class Client:
    def __init__(self, port):
        self.pool = {"free": [Connection(port)]}

class Pump(threading.Thread):
    def __init__(self, over):
        super().__init__(name="pump", daemon=True)
        self.over = over

    def run(self):
        self.over.wait()

class PumpedClient(Client):
    def __init__(self, port, over):
        super().__init__(port)
        self.pump = Pump(over)
        self.pump.start()
"""

Load = Callable[..., list[str]]


@pytest.fixture
def port() -> Iterator[int]:
    """Where somebody listens who is another process as far as one can see: nothing is accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Ends the threads of a test."""
    event = threading.Event()
    before = set(threading.enumerate())
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


@pytest.fixture
def load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, over: threading.Event
) -> Iterator[Load]:
    """``load(text, **files)``: what is said of an application of this text, where PORT and OVER are known.

    Its module is ``doctored.shop``; `files` are others of the package.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    given = type(sys)("doctored_given")
    given.PORT, given.OVER = port, over  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "doctored_given", given)

    def load(text: str, **files: str) -> list[str]:
        package = tmp_path / "doctored"
        package.mkdir()
        for name, content in {"__init__": "", "driver": LIBRARY, **files, "shop": text}.items():
            (package / f"{name}.py").write_text(content)
        importlib.invalidate_caches()
        with ForkDoctor() as doctor:
            importlib.import_module("doctored.shop")
        return [line.replace(f":{port}", ":PORT") for line in doctor.diagnose()]

    yield load
    over.set()
    for name in [name for name in sys.modules if name.startswith("doctored")]:
        vars(sys.modules.pop(name)).clear()
    gc.collect()


GIVEN = "from doctored_given import OVER, PORT\n"


def test_a_connected_client_is_named_with_its_type_its_holder_and_its_line(load: Load) -> None:
    lines = load(GIVEN + "from doctored.driver import Client\n\ncache = Client(PORT)\n")
    assert lines == [
        "doctored.driver.Client in doctored.shop.cache (doctored/shop.py:4) is connected to 127.0.0.1:PORT;"
        " the workers share the connection" + ADVICE
    ]


def test_a_client_with_connections_and_threads_is_one_line(load: Load) -> None:
    lines = load(GIVEN + "from doctored.driver import PumpedClient\nclient = PumpedClient(PORT, OVER)\n")
    assert lines == [
        "doctored.driver.PumpedClient in doctored.shop.client (doctored/shop.py:3) is connected to 127.0.0.1:PORT"
        " and has a thread: 'pump' (doctored/driver.py:16);"
        " the workers share the connection and are without the thread" + ADVICE
    ]


def test_a_thread_is_named_with_the_line_of_what_it_runs(load: Load) -> None:
    lines = load(
        GIVEN
        + "import threading\n\ndef watch():\n    OVER.wait()\n\n"
        + "threading.Thread(target=watch, name='watcher', daemon=True).start()\n"
    )
    assert lines == [
        "The application has a thread: 'watcher' (doctored/shop.py:4); the workers are without the thread" + ADVICE
    ]


def test_a_thread_belongs_to_the_object_whose_method_it_runs(load: Load) -> None:
    lines = load(
        GIVEN
        + "import threading\n\nclass Monitor:\n    def watch(self):\n        OVER.wait()\n\n"
        + "monitor = Monitor()\nfor _ in range(2):\n    threading.Thread(target=monitor.watch, name='m', daemon=True).start()\n"
    )
    assert lines == [
        "doctored.shop.Monitor in doctored.shop.monitor (doctored/shop.py:8) has 2 threads: 'm' (doctored/shop.py:5);"
        " the workers are without the threads" + ADVICE
    ]


def test_a_pool_of_threads_is_named_for_work_given_to_it_in_a_worker_would_wait_for_ever(load: Load) -> None:
    (line,) = load(
        GIVEN
        + "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\npool.submit(int).result()\n"
    )
    sys.modules["doctored.shop"].pool.shutdown()
    assert line.startswith(
        "concurrent.futures.thread.ThreadPoolExecutor in doctored.shop.pool (doctored/shop.py:3) has a thread: "
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("def make():\n    client = Client(PORT)\n    return lambda: client\nask = make()\n", "shop.ask"),
        ("class Shop:\n    client = Client(PORT)\n", "shop.Shop"),
        ("import threading\nlocal = threading.local()\nlocal.client = Client(PORT)\n", "shop.local"),
        ("from collections import deque\nspare = deque([Client(PORT)])\n", "shop.spare"),
        ("from functools import partial\nask = partial(print, Client(PORT))\n", "shop.ask"),
        ("left, client = 1, Client(PORT)\n", "shop.client (doctored/shop.py:3)"),
        ("client: Client = Client(PORT)\n", "shop.client (doctored/shop.py:3)"),
    ],
)
def test_a_client_is_found_wherever_the_application_keeps_it(load: Load, text: str, where: str) -> None:
    (line,) = load(GIVEN + "from doctored.driver import Client\n" + text)
    assert line.startswith(f"doctored.driver.Client in doctored.{where} ")


def test_a_socket_that_the_application_holds_by_itself_is_named_as_such(load: Load) -> None:
    (line,) = load(GIVEN + "import socket\nlink = socket.create_connection(('127.0.0.1', PORT))\n")
    assert line.startswith("socket.socket in doctored.shop.link (doctored/shop.py:3) is connected to 127.0.0.1:PORT")


def test_a_connection_of_which_no_module_knows_is_named_all_the_same(load: Load) -> None:
    lines = load(
        GIVEN
        + "import socket\nsocket = socket.create_connection(('127.0.0.1', PORT))\nnumber = socket.detach()\n"
    )
    number = sys.modules["doctored.shop"].number
    socket.socket(fileno=number).close()
    assert lines == [
        "A socket that no module's name leads to is connected to 127.0.0.1:PORT; the workers share the connection"
        + ADVICE
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("import socket\ns = socket.create_server(('127.0.0.1', 0))\n", id="a listener"),
        pytest.param("import socket\ns = socket.socket()\n", id="a socket that is not connected"),
        pytest.param("import socket\npair = socket.socketpair()\n", id="a pair within the process"),
        pytest.param(
            "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.connect(('127.0.0.1', PORT))\n",
            id="datagrams, as to StatsD and syslog",
        ),
        pytest.param(
            "import socket\nl = socket.create_server(('127.0.0.1', 0))\n"
            "a = socket.create_connection(l.getsockname())\nb, _ = l.accept()\n",
            id="a pair within the process, over TCP",
        ),
        pytest.param("from doctored.driver import Client\nClient(PORT)\n", id="what nobody holds"),
        pytest.param(
            "from doctored.driver import Client\nc = Client(PORT)\nc.self = c\ndel c\n", id="garbage in a circle"
        ),
        pytest.param(
            "import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()\n", id="a thread that has ended"
        ),
    ],
)
def test_what_a_fork_does_not_break_is_not_named(load: Load, text: str) -> None:
    assert load(GIVEN + text) == []


def test_what_was_there_before_the_load_is_not_named(load: Load, port: int, over: threading.Event) -> None:
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    with socket.create_connection(("127.0.0.1", port)):
        assert load("x = 1\n") == []


def test_what_is_closed_until_the_fork_is_not_named(load: Load, port: int) -> None:
    with ForkDoctor() as doctor:
        connection = socket.create_connection(("127.0.0.1", port))
    connection.close()
    assert doctor.diagnose() == []


def test_what_is_opened_after_the_load_as_by_hooks_is_not_named(load: Load, port: int) -> None:
    with ForkDoctor() as doctor:
        pass
    with socket.create_connection(("127.0.0.1", port)):
        assert doctor.diagnose() == []


@pytest.mark.parametrize("library", sorted(FORK_AWARE))
def test_threads_that_come_again_in_a_worker_by_themselves_are_not_named(
    over: threading.Event, library: str
) -> None:
    def work() -> None:
        over.wait()

    work.__module__ = f"{library}.worker"
    with ForkDoctor() as doctor:
        threading.Thread(target=work, daemon=True).start()
    assert doctor.diagnose() == []


def test_no_object_of_the_application_is_asked_for_anything(load: Load) -> None:
    lines = load(
        GIVEN
        + "from doctored.driver import Client\n"
        + "class Wary:\n    def __getattribute__(self, name):\n        raise RuntimeError(name)\n"
        + "    def __eq__(self, other):\n        raise RuntimeError\n    __hash__ = None\n"
        + "wary = Wary()\nclient = Client(PORT)\n"
    )
    assert len(lines) == 1


def test_the_applications_own_modules_come_before_installed_ones(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "doctored_pool.py").write_text("clients = []\n")
    monkeypatch.syspath_prepend(str(packages))
    (line,) = load(
        GIVEN
        + "import doctored_pool\nfrom doctored.driver import Client\n"
        + "doctored_pool.clients.append(Client(PORT))\nclass Shop:\n    parts = {'a': [doctored_pool.clients]}\n"
    )
    assert " in doctored.shop.Shop " in line
