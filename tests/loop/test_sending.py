"""Sending: large bodies, slow readers, files (HTTP.md 34, 36; RELIABILITY 32, 39, 44)."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import threading
import time
from typing import Any

import pytest

from cyhorn.wsgi.file_wrapper import FileWrapper
from tests.loop.driver import CLOSE, Incomplete, Served, get, hello, read_answer

MEGABYTE = 1 << 20


def answering(make: Any, *headers: tuple[str, str], status: str = "200 OK") -> Any:
    """An application whose body is `make(environ)`."""

    def application(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/hello":
            return hello(environ, start_response)
        start_response(status, list(headers))
        return make(environ)

    return application


def large(size: int) -> bytes:
    """`size` bytes that are the same nowhere."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


# -- large and many -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size"), [(count, 1) for count in (1, 2, 511, 512, 513, 1100)] + [(n, 17000) for n in (1, 2, 255, 256, 513)]
)
def test_a_list_of_many_parts_arrives_whole(impl, count, size):
    parts = [bytes([number % 251]) * size for number in range(count)]
    with Served(impl, answering(lambda environ: parts)) as served:
        client = served.client(get(), send_buffer=1 << 20)
        assert client.answer().body == b"".join(parts)
        assert client.send(get("/hello")).answer().body == b"hello"


def test_small_and_large_parts_keep_their_order(impl):
    parts = [b"a", large(40000), b"b", b"", b"c" * 16384, b"d" * 16385, large(100000), b"e"]
    for body in (parts, iter(parts * 1)):
        with Served(impl, answering(lambda environ, body=body: body)) as served:
            assert served.client(get(), send_buffer=4096).answer().body == b"".join(parts)


@pytest.mark.parametrize("memory", [0, 100_000, 64 * MEGABYTE])
@pytest.mark.parametrize("kind", ["list", "stream"])
def test_a_large_body_reaches_a_slow_reader_from_memory_and_file(impl, memory, kind, tmp_path):
    body = large(MEGABYTE)
    pieces = [body[at : at + 50_000] for at in range(0, MEGABYTE, 50_000)]
    application = answering(lambda environ: pieces if kind == "list" else iter(pieces))
    with Served(impl, application, response_buffer_size=memory, tmp_upload_dir=str(tmp_path)) as served:
        client = served.client(send_buffer=4096)
        client.send(get())
        served.turn(0)
        assert served.ask(get("/hello")).body == b"hello", "another client waits for the slow one"
        answer = client.answer()
        assert answer.body == body and not answer.closes
        assert client.send(get("/hello")).answer().body == b"hello"
        assert list(tmp_path.iterdir()) == []


def test_twenty_megabytes_arrive_whole(impl):
    body = large(20 * MEGABYTE)
    with Served(impl, answering(lambda environ: [body])) as served:
        client = served.client(get(), send_buffer=65536)
        assert client.answer().body == body


def test_answers_behind_a_slow_one_wait_for_it_and_keep_their_order(impl):
    body = large(300_000)
    with Served(impl, answering(lambda environ: [body])) as served:
        client = served.client(get() + get("/hello") + get() + get("/hello", CLOSE), send_buffer=4096)
        answers = client.answers_until_end()
        assert [answer.body for answer in answers] == [body, b"hello", body, b"hello"]


def test_a_slow_reader_that_half_closed_gets_all(impl):
    body = large(300_000)
    with Served(impl, answering(lambda environ: [body])) as served:
        client = served.client(get(), send_buffer=4096).end()
        (answer,) = client.answers_until_end()
        assert answer.body == body


def test_a_stream_goes_on_to_a_slow_reader_while_the_application_makes_it(impl):
    """What once found the socket full does not wait for the end of the stream."""
    taken: list[int] = []
    reached = threading.Event()

    def stream(environ):
        yield b"x" * 500_000  # more than the socket takes
        deadline = time.monotonic() + 10
        while not reached.is_set() and time.monotonic() < deadline:
            taken.append(1)
            yield b"y"
            reached.wait(0.001)
        yield b"z"

    with Served(impl, answering(stream)) as served, served.in_thread():
        client = served.connect(get())
        client.wait(lambda: b"1\r\ny\r\n" in client.data[-100:])
        reached.set()
        assert client.answer().body.endswith(b"yz")
        assert len(taken) < 5000


@pytest.mark.rule(39)
def test_without_room_the_worker_waits_for_the_reader(impl, tmp_path):
    made: list[int] = []
    waits = threading.Event()

    class Slot:
        requests = connections = 0

        def notify(self) -> None:
            if made:
                waits.set()

    def stream(environ):
        for number in range(100):
            made.append(number)
            yield bytes([number]) * 20_000

    options = {"response_buffer_size": 30_000, "response_spool_size": 60_000, "heartbeat": Slot()}
    with Served(impl, answering(stream), unix=str(tmp_path / "s"), **options) as served, served.in_thread():
        client = served.connect(get())
        assert waits.wait(10)
        assert len(made) < 60  # the socket takes some, memory and spool 100 kB
        assert client.answer().body == b"".join(bytes([number]) * 20_000 for number in range(100))
        assert len(made) == 100


def test_a_reader_that_takes_nothing_is_left_when_its_time_is_over(impl):
    closed: list[int] = []

    class Endless:
        def __iter__(self):
            while True:
                yield b"x" * 50_000

        def close(self):
            closed.append(1)

    options = {"response_buffer_size": 10_000, "response_spool_size": 0, "send_timeout": 0.05}
    with Served(impl, answering(lambda environ: Endless()), **options) as served:
        client = served.client(send_buffer=4096)
        client.send(get())
        served.turn_until(lambda: served.loop.connections == 0)
        assert closed == [1] and served.log.of("error", "warning") == [] and served.log.tracebacks == []


@pytest.mark.rule(44)
def test_a_reader_that_stops_is_closed_by_send_timeout(impl):
    with Served(impl, answering(lambda environ: [large(MEGABYTE)]), send_timeout=0.05) as served:
        client = served.client(get(), send_buffer=4096)
        served.turn_until(lambda: served.loop.connections == 0)
        data = client.until_end()
        with pytest.raises(Incomplete):
            read_answer(data, ended=False)
        assert served.log.tracebacks == []


@pytest.mark.rule(44)
def test_a_reader_that_is_slow_but_moves_is_served(impl):
    body = large(200_000)
    with Served(impl, answering(lambda environ: [body]), send_timeout=0.25, tick=0.02) as served:
        client = served.client(get(), send_buffer=4096)
        begun = time.monotonic()
        data = b""
        while time.monotonic() < begun + 0.5:
            data += client.sock.recv(8000)
            served.turn(0)
            served.turn(None)  # it waits for a tick, or for the socket
        client.data = data
        assert client.answer().body == body


@pytest.mark.rule(38)
def test_a_client_that_leaves_before_all_is_sent_costs_nothing(impl):
    with Served(impl, answering(lambda environ: [large(MEGABYTE)])) as served:
        before = len(os.listdir("/proc/self/fd"))
        client = served.client(get(), send_buffer=4096)
        client.close()
        served.turn_until(lambda: served.loop.connections == 0)
        assert len(os.listdir("/proc/self/fd")) == before
        assert served.log.of("error", "warning") == [] and served.log.tracebacks == []


@pytest.mark.rule(46)
def test_a_spool_that_cannot_be_made_makes_the_worker_wait_instead(impl, tmp_path):
    body = large(2_000_000)
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    options = {"response_buffer_size": 50_000, "tmp_upload_dir": str(tmp_path / "missing")}
    application = answering(lambda environ: iter(pieces))
    with Served(impl, application, unix=str(tmp_path / "s"), **options) as served, served.in_thread():
        client = served.connect(get())
        assert client.answer().body == body


def test_pipelined_requests_of_a_reader_that_does_not_read_are_not_run(impl):
    runs: list[int] = []

    def make(environ):
        runs.append(1)
        return [large(400_000)]

    with Served(impl, answering(make)) as served:
        client = served.client(get() * 50, send_buffer=4096)
        for _ in range(5):
            served.turn(0)
        assert len(runs) == 1
        client.answer()
        served.turn_until(lambda: len(runs) == 2)


# -- files --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(large(300_000))
    return target


class Opened:
    """Counts what is opened, and whether it was closed."""

    def __init__(self, path: Any, position: int = 0, wrap: Any = FileWrapper, mode: str = "rb", **how: Any) -> None:
        self.path, self.position, self.wrap, self.mode, self.how = path, position, wrap, mode, how
        self.files: list[Any] = []

    def __call__(self, environ: Any) -> Any:
        file = open(self.path, self.mode, **self.how)
        file.seek(self.position)
        self.files.append(file)
        return environ["wsgi.file_wrapper"](file)

    @property
    def closed(self) -> bool:
        return all(file.closed for file in self.files)


@pytest.mark.parametrize("how", [{}, {"buffering": 0}])
@pytest.mark.parametrize("sendfile", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_file_is_sent_from_its_position_and_closed(impl, file, how, sendfile, version):
    opened = Opened(file, 100, **how)
    with Served(impl, answering(opened), sendfile=sendfile) as served:
        client = served.client(get("/", CLOSE, version=version), send_buffer=8192)
        (answer,) = client.answers_until_end()
        assert answer.body == large(300_000)[100:]
        assert (answer.get("Content-Length") == "299900") is sendfile
        assert opened.closed


def test_a_file_is_not_read_into_the_process(impl, file):
    with file.open("rb") as opened, Served(
        impl, answering(lambda environ: FileWrapper(open(os.dup(opened.fileno()), "rb")))
    ) as served:
        assert served.ask(get()).body == large(300_000)
        assert os.lseek(opened.fileno(), 0, os.SEEK_CUR) == 0  # a read would have moved on, here too


def test_the_position_is_the_readers_not_the_descriptors(impl, file):
    def make(environ):
        opened = open(file, "rb")
        assert opened.read(10) == large(300_000)[:10]
        return environ["wsgi.file_wrapper"](opened)

    with Served(impl, answering(make)) as served:
        assert served.ask(get()).body == large(300_000)[10:]


@pytest.mark.parametrize("sendfile", [True, False])
def test_a_range_is_what_content_length_says(impl, file, sendfile):
    opened = Opened(file, 1000)
    application = answering(opened, ("Content-Length", "500"), status="206 Partial Content")
    with Served(impl, application, sendfile=sendfile) as served:
        client = served.client(get())
        answer = client.answer()
        assert answer.body == large(300_000)[1000:1500] and opened.closed
        assert client.send(get("/hello")).answer().body == b"hello"


def test_a_file_shorter_than_its_content_length_ends_the_connection(impl, file):
    with Served(impl, answering(Opened(file, 299_000), ("Content-Length", "2000"))) as served:
        data = served.client(get() + get("/hello")).until_end()
        assert data.partition(b"\r\n\r\n")[2] == large(300_000)[299_000:]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_file_without_a_body_to_send_is_closed(impl, file, method):
    opened = Opened(file)
    status = "200 OK" if method == "HEAD" else "304 Not Modified"
    with Served(impl, answering(opened, status=status)) as served:
        client = served.client(get(method=method))
        answer = client.answer(method)
        assert answer.body == b"" and opened.closed and client.silent()
        assert answer.get("Content-Length") == ("300000" if method == "HEAD" else None)


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(impl, file):
    opened = Opened(file)
    with Served(impl, answering(opened)) as served:
        client = served.client(get(), send_buffer=4096)
        os.truncate(file, 20_000)
        data = client.until_end()
        assert len(data) < 100_000 and opened.closed
        assert served.loop.connections == 0 and served.log.tracebacks == []
        # No client's fault: the operator is told which file it was.
        (line,) = served.log.of("warning")
        assert line.startswith("A response to ip=") and f"{str(file)!r} became shorter" in line


def test_a_file_may_be_removed_or_closed_while_it_is_sent(impl, file):
    with Served(impl, answering(Opened(file))) as served:
        client = served.client(get(), send_buffer=4096)
        file.unlink()
        assert client.answer().body == large(300_000)


def test_a_stream_before_a_file_goes_before_it(impl, file):
    def application(environ, start_response):
        start_response("200 OK", [])(b"first")
        return Opened(file)(environ)

    with Served(impl, application) as served:
        answer = served.ask(get())
        assert answer.body == b"first" + large(300_000) and answer.chunks


def test_what_is_no_real_file_is_read(impl, file, tmp_path):
    compressed = tmp_path / "file.gz"
    compressed.write_bytes(gzip.compress(b"plain" * 1000))
    spooled = tempfile.SpooledTemporaryFile(max_size=10)
    spooled.write(b"spooled" * 10)
    spooled.seek(7)
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)

    class Like:
        closed = False

        def __init__(self) -> None:
            self.parts = [b"a", b"b"]

        def read(self, size: int) -> bytes:
            return self.parts.pop(0) if self.parts else b""

    for made, body in (
        (io.BytesIO(b"memory"), b"memory"),
        (gzip.open(compressed), b"plain" * 1000),
        (spooled, b"spooled" * 9),
        (open(reading, "rb"), b"from a pipe"),
        (Like(), b"ab"),
    ):
        with Served(impl, answering(lambda environ, made=made: environ["wsgi.file_wrapper"](made, 4))) as served:
            assert served.ask(get()).body == body
        if not isinstance(made, Like):
            assert made.closed


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_file_that_only_says_it_is_empty_is_read(impl):
    with Served(impl, answering(Opened("/proc/self/status"))) as served:
        assert b"Pid:" in served.ask(get()).body


def test_an_empty_file_is_an_empty_body(impl, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with Served(impl, answering(Opened(tmp_path / "empty"))) as served:
        answer = served.ask(get())
        assert answer.body == b"" and answer.get("Content-Length") == "0"


def test_text_in_a_file_wrapper_is_the_applications_mistake(impl, file):
    file.write_text("text")
    opened = Opened(file, mode="r")
    with Served(impl, answering(opened)) as served:
        (answer,) = served.exchange(get())
        assert answer.status == 500 and opened.closed


def test_a_file_wrapper_without_close_has_none():
    class Like:
        def read(self, size: int) -> bytes:
            return b""

    assert not hasattr(FileWrapper(Like()), "close")
    assert list(FileWrapper(io.BytesIO(b"abcde"), 2)) == [b"ab", b"cd", b"e"]
