"""Connections: persistence, pipelining, timers, ends and stops (HTTP.md 23 to 26; RELIABILITY 13, 29 to 33,
37, 38, 44, 47)."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from typing import Any

import pytest

from cyhorn.process.heartbeat import BUSY, READY, HeartbeatTable
from tests.loop.driver import CLOSE, Served, chunked, echo, get, hello, path, post, read_all

SHORT = 0.03  # seconds of a timer that is to expire
LONG = 60.0
MONOTONIC_COARSE = 6  # Linux's number of the clock of which `time` has no name


# -- persistence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "version", "closes"),
    [
        ((), "1.1", False), (("Connection: close",), "1.1", True), (("Connection: Keep-Alive, CLOSE",), "1.1", True),
        (("Connection: x", "Connection: close"), "1.1", True), (("Connection: closed, unclose",), "1.1", False),
        ((), "1.0", True), (("Connection: keep-alive",), "1.0", False), (("Connection: keep-alive, close",), "1.0", True),
        (("Connection: not-keep-alive",), "1.0", True),
    ],
)  # fmt: skip
def test_a_connection_persists_as_version_and_connection_say(impl, fields, version, closes):
    with Served(impl, hello) as served:
        client = served.client(get("/", *fields, version=version))
        answer = client.answer()
        assert answer.closes is closes
        if closes:
            assert client.until_end() == b""
        else:
            assert client.silent() and client.send(get(version="1.1")).answer().body == b"hello"


def test_without_keepalive_every_answer_closes(impl):
    with Served(impl, path, keepalive=0.0) as served:
        (answer,) = served.exchange(get("/1") + get("/2"))
        assert answer.closes and answer.body == b"/1"


@pytest.mark.rule(13)
def test_an_idle_connection_is_closed_in_time_without_a_word(impl):
    with Served(impl, hello, keepalive=SHORT) as served:
        client = served.client(get())
        assert not client.answer().closes
        assert client.until_end() == b"" and served.log.lines == []


def test_each_request_starts_the_idle_time_anew(impl):
    with Served(impl, hello, keepalive=0.3) as served:
        client = served.client()
        begun = time.monotonic()
        while time.monotonic() < begun + 0.5:
            client.send(get())
            assert client.answer().body == b"hello"


def test_a_long_call_does_not_use_up_the_idle_time(impl):
    def slow(environ, start_response):
        time.sleep(0.1)
        return hello(environ, start_response)

    with Served(impl, slow, keepalive=0.08) as served:
        client = served.client(get())
        client.answer()
        served.turn(0)
        assert client.silent(2) and client.send(get()).answer().status == 200


def test_a_long_call_does_not_time_out_those_who_sent_meanwhile(impl):
    def slow(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            other.sock.send(b"Host: a\r\n\r\n")
            fourth.sock.send(b"y")
            time.sleep(0.1)
        return echo(environ, start_response)

    with Served(impl, slow, client_header_timeout=0.08, client_body_timeout=0.08) as served:
        other = served.client(b"GET / HTTP/1.1\r\n")
        fourth = served.client(post(b"xy")[:-1])
        third = served.client(get("/slow"))
        assert third.answer().status == 200
        assert other.answer().status == 200
        assert fourth.answer().body == b"xy"


# -- pipelining ------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(impl):
    with Served(impl, path) as served:
        client = served.client(b"".join(get(f"/{number}") for number in range(200)))
        assert [client.answer().body for _ in range(200)] == [b"/%d" % number for number in range(200)]
        assert client.silent()


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 17, 40])
def test_pipelined_requests_may_be_cut_anywhere(impl, cut):
    data = get("/1") + post(b"body of two", target="/2") + chunked(b"three", b"3") + get("/4", CLOSE)
    seen: list[tuple[str, bytes]] = []

    def application(environ, start_response):
        seen.append((environ["PATH_INFO"], environ["wsgi.input"].read()))
        return hello(environ, start_response)

    with Served(impl, application) as served:
        client = served.client()
        for at in range(0, len(data), cut):
            client.sock.send(data[at : at + cut])
            served.turn(0)
        assert len(client.answers_until_end()) == 4
        assert seen == [("/1", b""), ("/2", b"body of two"), ("/", b"three3"), ("/4", b"")]


def test_fast_pipelined_answers_leave_in_one_send(impl):
    def answers_of_one_send() -> int:
        warm = served.client(get() * 100)
        assert [warm.answer().status for _ in range(100)] == [200] * 100
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps sends apart
        with ours:
            ours.sendall(get() * 10)
            served.loop.adopt(theirs)
            served.turn(0)
            return len(read_all(ours.recv(1 << 20), ended=False))

    with Served(impl, hello) as served:
        # Where the machine took its time over a call, the application seemed slow: ask again.
        assert any(answers_of_one_send() == 10 for _ in range(50))


def test_an_answer_does_not_wait_for_a_slow_call_behind_it(impl):
    seen: list[bytes] = []

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            seen.append(client.sock.recv(65536))
            time.sleep(0.001)
        return path(environ, start_response)

    with Served(impl, application) as served:
        client = served.client()
        client.send(get("/first") + get("/slow"))
        served.turn()
        (first,) = read_all(seen[0], ended=False)
        assert first.body == b"/first" and client.answer().body == b"/slow"


def test_what_fails_ends_the_connection_after_the_answers_before_it(impl):
    with Served(impl, path) as served:
        answers = served.exchange(get("/1") + get("/2") + b"GET /bad\x01 HTTP/1.1\r\n\r\n" + get("/3"))
        assert [answer.status for answer in answers] == [200, 200, 400] and answers[-1].closes
        (line,) = served.log.of("info")
        assert "ip=" in line and "[TARGET]" in line and served.log.tracebacks == []


def test_nothing_after_connection_close_is_a_request(impl):
    seen: list[str] = []

    def application(environ, start_response):
        seen.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    with Served(impl, application) as served:
        assert len(served.exchange(get("/1") + get("/2", CLOSE) + get("/3"))) == 2
        assert seen == ["/1", "/2"]


def test_answers_of_one_connection_never_reach_another(impl):
    """What waits to be sent when its client vanishes is nobody else's."""

    def application(environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    with Served(impl, application, buffer_request_body=False) as served:
        warm = served.client(get() * 100)
        assert [warm.answer().status for _ in range(100)] == [200] * 100
        gone = served.client()
        gone.sock.send(get("/private") * 3 + post(b"x" * 100, target="/upload")[:-50])
        gone.sock.close()
        served.turn()
        assert served.client(get("/mine", CLOSE)).answers_until_end()[0].body == b"/mine"


# -- timers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n", get()[:-1], b"\r\n"])
@pytest.mark.rule(44)
def test_a_head_that_does_not_come_whole_in_time_is_408(impl, data):
    with Served(impl, hello, client_header_timeout=SHORT) as served:
        (answer,) = served.exchange(data)
        assert answer.status == 408 and answer.closes
        assert served.log.of("info")[0].endswith("[TIMEOUT]") and served.log.tracebacks == []


def test_a_timed_out_head_request_gets_no_body(impl):
    with Served(impl, hello, client_header_timeout=SHORT) as served:
        (answer,) = served.exchange(b"HEAD / HTTP/1.1\r\n", "HEAD")
        assert answer.status == 408 and answer.body == b""


def test_a_connection_without_a_byte_is_closed_in_time_without_a_word(impl):
    with Served(impl, hello, client_header_timeout=SHORT) as served:
        assert served.client().until_end() == b"" and served.log.lines == []


@pytest.mark.rule(44)
def test_the_heads_time_is_for_the_whole_head(impl):
    with Served(impl, hello, client_header_timeout=0.15, tick=0.01) as served:
        client = served.client()
        begun = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        while not client.data and not client.ended:
            assert time.monotonic() < begun + 5
            try:
                client.sock.send(b"y")
            except OSError:
                pass
            served.turn(0)
            served.turn(None)  # it waits for a tick
            client._receive()
        assert client.answer().status == 408


def test_a_second_head_has_the_heads_time_from_its_first_byte(impl):
    with Served(impl, hello, client_header_timeout=SHORT, keepalive=LONG) as served:
        client = served.client(get())
        client.answer()
        client.send(b"GET")
        (answer,) = client.answers_until_end()
        assert answer.status == 408


@pytest.mark.parametrize("data", [post(b"xx")[:-1], chunked(b"ab")[:-3], post(b"xx")[:-2]])
@pytest.mark.rule(44)
def test_a_body_that_stops_coming_is_408(impl, data):
    with Served(impl, echo, client_body_timeout=SHORT) as served:
        (answer,) = served.exchange(data)
        assert answer.status == 408 and answer.closes


@pytest.mark.rule(44)
def test_a_body_that_moves_is_waited_for(impl):
    with Served(impl, echo, client_body_timeout=0.25, tick=0.02) as served:
        client = served.client(post(b"x" * 20)[:-20])
        begun = time.monotonic()
        for _ in range(20):
            served.turn(None)  # it waits for a tick
            client.sock.send(b"x")
            served.turn(0)
        assert client.answer().body == b"x" * 20
        assert time.monotonic() > begun + 0.3


def test_timers_that_are_off_never_expire(impl):
    off = dict.fromkeys(("client_header_timeout", "client_body_timeout", "send_timeout", "keepalive"), 0.0)
    with Served(impl, hello, **off, tick=0.01) as served:
        head, body = served.client(b"GET"), served.client(post(b"xx")[:-1])
        assert head.silent(5) and body.silent(5)
        assert head.send(get()[3:]).answer().status == 200


def test_timers_may_be_longer_than_the_clock_counts(impl):
    names = ("client_header_timeout", "client_body_timeout", "send_timeout", "keepalive", "linger_timeout", "timeout")
    with Served(impl, hello, **dict.fromkeys(names, 1e10)) as served:
        client = served.client(get() + get()[:9])
        assert client.answer().status == 200
        assert client.silent(5)
        assert client.send(get()[9:]).answer().status == 200


def test_the_loop_sleeps_no_longer_than_a_tick_and_tells_it(impl):
    ticks: list[float] = []
    with Served(impl, hello, tick=0.02, on_tick=lambda: ticks.append(time.monotonic())) as served:
        begun = time.monotonic()
        for _ in range(4):
            served.turn(None)
        assert time.monotonic() < begun + 2
        assert len(ticks) >= 2


# -- ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [get(), post(b"body"), chunked(b"a", b"b"), get("/1") + get("/2")])
def test_a_half_closed_client_gets_its_answers(impl, data):
    with Served(impl, echo) as served:
        client = served.client(data).end()
        answers = client.answers_until_end()
        assert len(answers) == data.count(b"HTTP/1.1") and answers[0].status == 200
        assert served.log.lines == []


@pytest.mark.parametrize("data", [b"", b"GET / HT", get()[:-2], post(b"xx")[:-1], chunked(b"a")[:-2]])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.rule(38)
def test_a_client_that_leaves_inside_a_request_costs_nothing(impl, data, half):
    with Served(impl, hello) as served:
        client = served.client(data)
        served.turn()
        if half:
            assert client.end().until_end() == b""
        else:
            client.close()
        served.turn_until(lambda: served.loop.connections == 0)
        assert served.log.of("info", "warning", "error") == [] and served.loop.requests == 0


@pytest.mark.rule(38)
def test_many_aborts_leave_no_descriptor_and_no_line(impl):
    def linger_reset(client: Any) -> None:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sock.close()

    with Served(impl, lambda environ, start_response: echo(environ, start_response) * 1000) as served:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(200):
            data = (b"GET / HT", get(), post(b"x" * 1000), post(b"xx")[:-1], chunked(b"x" * 9) * 3)[number % 5]
            client = served.connect(data)
            if number % 2:
                served.turn()
            linger_reset(client)
        served.turn_until(lambda: served.loop.connections == 0)
        assert len(os.listdir("/proc/self/fd")) == before
        assert served.log.of("warning", "error") == [] and served.log.tracebacks == []


def test_a_refused_client_that_still_sends_gets_its_answer_and_no_reset(impl):
    with Served(impl, hello, limit_request_body=1000) as served:
        client = served.connect(get("/", "Content-Length: 5000000", method="POST"))
        client.send(b"x" * 5000000)
        assert client.end().answers_until_end()[0].status == 413
        assert not client.reset
        served.turn_until(lambda: served.loop.connections == 0)


def test_a_lingering_connection_is_closed_in_time_and_others_are_served_meanwhile(impl):
    with Served(impl, hello, linger_timeout=0.1) as served:
        client = served.client(b"BAD\r\n\r\n")
        assert client.answer().status == 400
        client.wait(lambda: client.ended, "end")  # FIN: the server still reads
        assert served.loop.connections == 1
        assert served.ask(get()).status == 200
        client.sock.send(b"x" * 1000)
        served.turn_until(lambda: served.loop.connections == 0)


def test_a_lingering_connection_may_not_send_for_ever(impl):
    with Served(impl, hello, linger_timeout=LONG) as served:
        client = served.client(b"BAD\r\n\r\n")
        served.turn()
        sent = 0
        block = b"x" * 65536
        with pytest.raises(OSError):
            while sent < 200 << 20:
                try:
                    sent += client.sock.send(block)
                except BlockingIOError:
                    served.turn(0)
        assert 30 << 20 < sent < 40 << 20 and served.loop.connections == 0


def test_without_a_time_to_linger_the_connection_is_closed_at_once(impl):
    with Served(impl, hello, linger_timeout=0.0) as served:
        client = served.client(b"BAD\r\n\r\n")
        assert client.answer().status == 400
        assert served.loop.connections == 0


@pytest.mark.rule(13, 47)
def test_a_request_that_crosses_our_close_does_not_cost_the_client_its_answer(impl):
    with Served(impl, hello, keepalive=0.0) as served:
        client = served.connect(get())
        served.turn(0.05)
        served.turn_until(lambda: served.loop.requests == 1)
        client.sock.send(get("/crossing"))
        served.turn(0)
        (answer,) = client.answers_until_end()
        assert answer.body == b"hello" and not client.reset


def test_a_connection_that_a_child_of_the_application_holds_costs_no_turns(impl):
    """A duplicate of the descriptor keeps it in epoll after a close."""
    kept: list[int] = []

    def application(environ, start_response):
        kept.append(os.dup(environ["gunicorn.socket"].fileno()))
        return hello(environ, start_response)

    with Served(impl, application, tick=0.05) as served:
        client = served.client(get())
        client.answer()
        client.send(get("/", CLOSE)).answer()
        client.sock.close()
        served.turn_until(lambda: served.loop.connections == 0)
        begun = time.monotonic()
        served.turn(None)
        served.turn(None)
        assert time.monotonic() > begun + 0.03
        for fd in kept:
            os.close(fd)


def test_a_number_that_is_used_again_in_the_same_turn_serves_the_new_connection(impl):
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/swap":
            second.sock.close()
        return path(environ, start_response)

    with Served(impl, application) as served:
        first, second, third = served.client(), served.client(), served.connect()
        first.sock.send(get("/swap", CLOSE))
        second.sock.send(get("/2", CLOSE))
        third.sock.send(get("/3", CLOSE))
        served.turn()
        newer = [served.connect(get(f"/n{number}", CLOSE)) for number in range(3)]
        assert first.answers_until_end()[0].body == b"/swap"
        assert third.answers_until_end()[0].body == b"/3"
        assert [client.answers_until_end()[0].body for client in newer] == [b"/n0", b"/n1", b"/n2"]


# -- stopping --------------------------------------------------------------------------------------------------------------


@pytest.mark.rule(13)
def test_stop_closes_the_listener_and_idle_connections_and_ends_the_loop(impl):
    with Served(impl, hello) as served:
        client = served.client(get())
        assert not client.answer().closes
        served.loop.stop()
        begun = time.monotonic()
        while served.turn(None):
            assert time.monotonic() < begun + 5
        assert client.until_end() == b"" and not client.reset
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(served.address)
        assert served.turn() is False


@pytest.mark.rule(13, 47)
def test_a_request_that_is_on_its_way_when_the_loop_stops_is_answered_with_close(impl):
    with Served(impl, hello) as served:
        client = served.client(get())
        client.answer()
        served.loop.stop()
        served.turn(0)
        answer = client.send(get()).answer()
        assert answer.status == 200 and answer.closes


@pytest.mark.rule(31)
def test_what_the_kernel_queue_holds_is_accepted_and_answered(impl):
    with Served(impl, path) as served:
        clients = [served.connect(get(f"/{number}")) for number in range(40)]
        served.loop.stop()
        while served.turn(0.05):
            for client in clients:
                if not client.ended:
                    client._receive()
        for number, client in enumerate(clients):
            (answer,) = client.answers_until_end()
            assert answer.closes and answer.body == b"/%d" % number


def test_what_was_left_to_other_workers_is_answered_when_the_loop_stops(impl):
    """A worker with more than its share pauses; the others may be about to leave, too."""
    table = HeartbeatTable(2)
    slot, other = table.claim(), table.claim()
    slot.state = other.state = READY
    with Served(impl, path, heartbeat=slot, multiprocess=True) as served:
        clients = [served.connect(get(f"/{number}")) for number in range(20)]
        for _ in range(3):
            served.turn(0)
        assert 0 < served.loop.connections < 20
        served.loop.stop()
        while served.turn(0.05):
            for client in clients:
                if not client.ended:
                    client._receive()
        for number, client in enumerate(clients):
            (answer,) = client.answers_until_end()
            assert answer.body == b"/%d" % number
    table.close()


def test_a_worker_with_a_queue_of_its_own_leaves_no_connection_in_it(impl):
    """Under reuse_port nobody else would accept it."""
    table = HeartbeatTable(2)
    slot, other = table.claim(), table.claim()
    slot.state = other.state = READY
    with Served(impl, hello, heartbeat=slot, multiprocess=True, shared_listeners=False) as served:
        clients = [served.connect(get()) for _ in range(40)]
        for client in clients:
            assert client.answer().status == 200
    table.close()


@pytest.mark.rule(37)
def test_stopping_without_descriptors_is_stopping(impl):
    with Served(impl, hello) as served:
        waiting = served.connect(get())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.open("/dev/null", os.O_RDONLY)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        try:
            served.turn(0)
            served.loop.stop()
            served.turn_until(lambda: not served.turn(0.01))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.until_end()


def test_a_new_connection_has_a_moment_to_send_its_request_and_its_time_to_end_it(impl):
    with Served(impl, hello, client_header_timeout=LONG) as served:
        silent, late, half = served.connect(), served.connect(), served.connect()
        served.loop.stop()
        served.turn(0)
        late.sock.send(get())
        half.sock.send(b"GET / HT")
        assert late.answer().closes
        assert silent.until_end() == b""
        served.turn(0)
        assert half.silent() and half.send(get()[8:]).answer().closes
        late.close(), half.close()
        served.turn_until(lambda: served.loop.connections == 0)


@pytest.mark.rule(32)
def test_a_body_and_a_slow_reader_are_brought_to_their_end_when_the_loop_stops(impl):
    with Served(impl, echo) as served:
        upload = served.client(post(b"x" * 100)[:-50])
        reader = served.client(send_buffer=4096).send(post(b"y" * 500000))
        served.turn(0)
        served.loop.stop()
        served.turn(0)
        assert upload.send(b"x" * 50).answer().closes
        assert reader.answer().body == b"y" * 500000
        served.turn_until(lambda: not served.turn(0))


def test_stop_from_inside_the_application_closes_with_that_answer(impl):
    def application(environ, start_response):
        served.loop.stop()
        return path(environ, start_response)

    with Served(impl, application) as served:
        (answer,) = served.exchange(get("/1") + get("/2"))
        assert answer.closes


@pytest.mark.rule(13, 47)
def test_an_answer_whose_head_has_left_before_the_stop_ends_whole(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"begun "
        served.loop.stop()
        yield b"and ended"

    with Served(impl, application) as served:
        (answer,) = served.exchange(get())
        assert answer.body == b"begun and ended"


@pytest.mark.rule(47)
def test_max_requests_ends_the_loop_after_an_answer_that_says_close(impl):
    told: list[int] = []
    with Served(impl, path, max_requests=3, on_max_requests=lambda: told.append(served.loop.requests)) as served:
        client = served.client(get("/1") + get("/2") + get("/3") + get("/4"))
        answers = client.answers_until_end()
        assert [answer.body for answer in answers] == [b"/1", b"/2", b"/3"]
        assert [answer.closes for answer in answers] == [False, False, True]
        assert told == [3]
        client.close()
        served.turn_until(lambda: not served.turn(0.01))


def test_run_returns_when_stopped_from_another_thread(impl):
    with Served(impl, hello) as served, served.in_thread():
        client = served.connect(get())
        assert client.answer().body == b"hello"
    assert served.loop.stopping


def test_watched_descriptors_are_called_for(impl):
    called: list[bytes] = []
    read_end, write_end = os.pipe()
    with Served(impl, hello, watch={read_end: lambda: called.append(os.read(read_end, 10))}) as served:
        os.write(write_end, b"x")
        served.turn()
        served.turn()
    os.close(read_end)
    os.close(write_end)
    assert called == [b"x"]


def test_closing_twice_is_closing(impl):
    with Served(impl, hello) as served:
        served.client(get())
        served.loop.close()
        served.loop.close()
        assert served.loop.connections == 0


# -- scarcity -------------------------------------------------------------------------------------------------------------------


@pytest.mark.rule(37)
def test_accepting_pauses_without_descriptors_and_recovers(impl):
    with Served(impl, hello) as served:
        open_one = served.client(get())
        open_one.answer()
        waiting = served.connect(get())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.open("/dev/null", os.O_RDONLY)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        try:
            for _ in range(5):
                served.turn(0)
            assert not waiting._receive()
            open_one.sock.send(get())
            served.turn(0)
            assert open_one._receive(), "those who are served are served on"
            (line,) = served.log.of("warning")
            assert os.strerror(errno.EMFILE) in line
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert waiting.answer().body == b"hello"
        assert served.connect(get()).answer().body == b"hello"


def test_many_connections_at_once_are_all_served(impl):
    with Served(impl, path) as served:
        clients = [served.client() for _ in range(300)]
        for number, client in enumerate(clients):
            client.sock.send(get(f"/{number}"))
        assert [client.answer().body for client in clients] == [b"/%d" % number for number in range(300)]
        assert served.loop.connections == 300


# -- the heartbeat ----------------------------------------------------------------------------------------------------------------


def test_the_heartbeat_slot_is_kept(impl):
    table = HeartbeatTable(2)
    table.claim()
    slot = table.claim()
    with Served(impl, hello, heartbeat=slot) as served:
        before = slot.last_update()
        while time.clock_gettime(MONOTONIC_COARSE) <= before:
            time.sleep(0.001)  # it lags by its step, and more where ticks are lost
        client = served.client(get() + get())
        client.answer(), client.answer()
        served.turn()
        assert slot.last_update() > before
        assert abs(slot.last_update() - time.monotonic()) < 1
        assert (slot.requests, slot.connections) == (2, 1)
        client.close()
        served.turn()
        served.turn()
        assert slot.connections == 0
    table.close()


@pytest.mark.parametrize("other_waits", [True, False])
def test_who_waited_behind_a_long_call_is_sent_to_a_worker_that_has_nothing_to_do(impl, other_waits):
    table = HeartbeatTable(2)
    slot, other = table.claim(), table.claim()
    slot.state = READY
    other.state = READY if other_waits else BUSY

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/long":
            if behind[1].sock.fileno() >= 0:
                behind[1].send(get())  # comes in during the call
            time.sleep(0.12)
        start_response("200 OK", [])
        return [b"x"]

    with Served(impl, application, heartbeat=slot, multiprocess=True) as served:
        caller, parked, *behind = [served.client() for _ in range(4)]
        for client in (caller, parked, *behind):
            assert not client.send(get()).answer().closes
        caller.send(get("/long"))
        behind[0].send(get())  # stands behind the call in the same turn
        served.turn()
        served.connect(get())  # from one who was sent away, say
        served.turn()
        assert served.loop.connections == (4 if other_waits else 5), "left to the other"
        assert not caller.answer().closes
        assert [client.answer().closes for client in behind] == [other_waits] * 2
        served.turn(), served.turn()
        assert not parked.send(get()).answer().closes, "it has not waited"
        caller.send(get("/long") + get())
        assert not caller.answer().closes and not caller.answer().closes, "it would take its calls elsewhere"
        served.turn_until(lambda: served.loop.connections == 5 - len(behind) * other_waits)
    table.close()


def test_any_object_with_the_slots_names_will_do(impl):
    class Slot:
        beats = requests = connections = 0

        def notify(self) -> None:
            self.beats += 1

    slot = Slot()
    with Served(impl, hello, heartbeat=slot) as served:
        served.ask(get())
        assert slot.beats and slot.requests == 1


class Beats:
    """A slot that counts how often the worker has said that it lives."""

    requests = connections = count = 0

    def notify(self) -> None:
        self.count += 1


@pytest.mark.rule(28)
@pytest.mark.parametrize("how", ["items", "write()"])
def test_a_stream_beats_while_it_goes(impl, how):
    beats: list[int] = []
    slot = Beats()

    def items(environ, start_response):
        start_response("200 OK", [])
        for _ in range(3):
            beats.append(slot.count)
            yield b"x"

    def writes(environ, start_response):
        write = start_response("200 OK", [])
        for _ in range(3):
            beats.append(slot.count)
            write(b"x")
        return []

    with Served(impl, items if how == "items" else writes, heartbeat=slot) as served:
        served.ask(get())
    assert beats[0] < beats[1] < beats[2]


@pytest.mark.rule(28)
def test_a_body_that_the_application_reads_beats_while_it_comes(impl):
    beats: list[int] = []
    slot = Beats()

    def application(environ, start_response):
        while environ["wsgi.input"].read(1):
            beats.append(slot.count)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    with Served(impl, application, heartbeat=slot, buffer_request_body=False) as served, served.in_thread():
        client = served.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        for count in range(3):
            client.send(b"x")
            client.wait(lambda: len(beats) > count, "it is read")  # noqa: B023
        assert client.answer().status == 200
    assert beats[0] < beats[1] < beats[2]


def test_a_connection_counts_while_its_first_request_is_answered(impl):
    """Others leave new ones to this worker otherwise, and who asks is told that nobody is there."""
    slot = Beats()
    counted: list[int] = []

    def application(environ, start_response):
        counted.append(slot.connections)
        return hello(environ, start_response)

    with Served(impl, application, heartbeat=slot) as served:
        served.client(get()).answer()
    assert counted == [1]


def test_the_loop_counts_its_requests_and_connections(impl):
    with Served(impl, hello) as served:
        assert (served.loop.requests, served.loop.connections) == (0, 0)
        clients = [served.client(get()) for _ in range(3)]
        assert (served.loop.requests, served.loop.connections) == (3, 3)
        for client in clients:
            client.close()
        served.turn()
        assert served.loop.connections == 0


def test_other_threads_of_the_application_run_while_the_loop_waits(impl):
    done = threading.Event()
    with Served(impl, hello, tick=0.2) as served:
        threading.Thread(target=done.set).start()
        served.turn(None)
        assert done.wait(5)


def test_more_connections_than_allowed_wait_until_others_end(impl):
    with Served(impl, hello, max_connections=2) as served:
        first, second = served.connect(get()), served.connect(get())
        assert [client.answer().status for client in (first, second)] == [200, 200]
        third = served.connect(get())
        assert third.silent() and served.loop.connections == 2
        first.close()
        assert third.answer().status == 200
        assert served.loop.connections == 2
