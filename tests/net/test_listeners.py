"""Listening sockets: binding, refusing, inheriting, handing on and putting away."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cyhorn.errors import ConfigError, ListenError
from cyhorn.net import listeners as module
from cyhorn.net.listeners import BIND_RETRIES, Listener, close_listeners, create_listeners, worker_listeners

ROOT = os.geteuid() == 0
TLS = Path(__file__).resolve().parent.parent / "data" / "tls"
SERVER = {"is_ssl": True, "certfile": str(TLS / "server.pem"), "keyfile": str(TLS / "server.key")}


class Log:
    def __init__(self):
        self.lines = []

    def _take(self, level):
        return lambda text, *args: self.lines.append((level, text % args if args else text))

    def __getattr__(self, level):
        return self._take(level)

    def text(self, level="error"):
        return "\n".join(line for its, line in self.lines if its == level)


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def make(log, pauses):
    """create_listeners with a configuration of defaults; what it made is closed at the end."""
    with contextlib.ExitStack() as stack:

        def run(*addresses, fds=None, keep=(), sleep=pauses.append, **settings):
            made = create_listeners(config(*addresses, **settings), log, fds, keep=keep, sleep=sleep)
            stack.callback(close_listeners, made)
            return made

        yield run


def config(*addresses, **settings):
    values = {
        "address": list(addresses),
        "backlog": 64,
        "reuse_port": False,
        "umask": 0,
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "is_ssl": False,
        "certfile": None,
        "keyfile": None,
        "ca_certs": None,
        "cert_reqs": 0,
        "ciphers": None,
        "ssl_context": None,
    }
    return SimpleNamespace(**{**values, **settings})


def talk(listener):
    """Whether a client reaches the listener. Connections that were only probes are passed over."""
    with socket.socket(listener.family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(listener.getsockname())
        client.sendall(b"x")
        listener.settimeout(5)
        try:
            while True:
                with listener.accept()[0] as peer:
                    if peer.recv(1) == b"x":
                        return True
        finally:
            listener.setblocking(False)


# --- binding


def test_a_tcp_listener_listens_without_blocking_and_can_be_inherited(make):
    (listener,) = make(("127.0.0.1", 0))
    assert listener.is_listening
    assert listener.gettimeout() == 0.0
    assert listener.sock.get_inheritable()
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert listener.family == socket.AF_INET
    assert not listener.is_unix
    assert listener.path is None
    assert listener.fileno() == listener.sock.fileno()
    assert str(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert talk(listener)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not copy the option")
def test_accepted_sockets_do_not_delay_small_writes(make):
    (listener,) = make(("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname()):
        listener.settimeout(5)
        peer, _ = listener.accept()
        with peer:
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_several_addresses_come_in_their_order_each_once(make, tmp_path):
    path = str(tmp_path / "a.sock")
    made = make(("127.0.0.1", 0), path, ("127.0.0.1", 0), path)
    assert [listener.is_unix for listener in made] == [False, True]
    assert all(talk(listener) for listener in made)


def test_the_shown_address_is_https_under_tls(make):
    (listener,) = make(("127.0.0.1", 0), is_ssl=True)
    assert str(listener).startswith("https://127.0.0.1:")


def test_an_ipv6_literal_is_bound(make):
    (listener,) = make(("::1", 0))
    assert listener.family == socket.AF_INET6
    assert str(listener) == f"http://[::1]:{listener.getsockname()[1]}"
    assert talk(listener)


def test_a_name_is_resolved_to_ipv4_first(make):
    (listener,) = make(("localhost", 0))
    assert listener.getsockname()[0] == "127.0.0.1"
    assert talk(listener)


def test_no_host_is_every_ipv4_interface(make):
    (listener,) = make(("", 0))
    assert listener.getsockname()[0] == "0.0.0.0"


def test_ipv6_wildcard_follows_the_system_alone_and_leaves_ipv4_to_its_neighbour(make):
    (alone,) = make(("::", 0))
    with socket.socket(socket.AF_INET6) as plain:
        default = plain.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert alone.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == default
    port = alone.getsockname()[1]
    alone.close()
    for hosts in (("::", "0.0.0.0"), ("0.0.0.0", "::"), ("", "::")):
        made = make(*[(host, port) for host in hosts])
        assert {listener.family for listener in made} == {socket.AF_INET, socket.AF_INET6}
        close_listeners(made)


def test_the_queue_of_waiting_connections_is_counted(make, tmp_path):
    tcp, unix = make(("127.0.0.1", 0), str(tmp_path / "a.sock"))
    assert unix.get_backlog() == -1
    if sys.platform != "linux":
        assert tcp.get_backlog() == -1
        return
    assert tcp.get_backlog() == 0
    with socket.create_connection(tcp.getsockname()), socket.create_connection(tcp.getsockname()):
        assert tcp.get_backlog() == 2
    tcp.close()
    assert tcp.get_backlog() == -1


# --- failing


@pytest.mark.rule(5)
def test_an_address_in_use_is_tried_again_and_then_refused(make, log, pauses):
    (first,) = make(("127.0.0.1", 0))
    address = ("127.0.0.1", first.getsockname()[1])
    with pytest.raises(ListenError, match=rf"http://127\.0\.0\.1:{address[1]}: .* in use"):
        make(address)
    assert pauses == [1.0] * BIND_RETRIES
    told = f"Connection in use: {address}: [Errno {errno.EADDRINUSE}] {os.strerror(errno.EADDRINUSE)}"
    assert log.text().splitlines() == [told] * (BIND_RETRIES + 1)
    assert log.text("debug").count("Retrying in 1 second.") == BIND_RETRIES


def test_an_address_that_is_freed_meanwhile_is_bound(make, log, pauses):
    (first,) = make(("127.0.0.1", 0))
    address = first.getsockname()

    def leave(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            first.close()

    (second,) = make(address, sleep=leave)
    assert len(pauses) == 2
    assert talk(second)


def test_a_failure_closes_what_was_opened_before(make, tmp_path):
    path = tmp_path / "a.sock"
    with pytest.raises(ListenError):
        make(str(path), ("192.0.2.1", 0))
    assert not path.exists()


def test_a_foreign_address_is_refused_by_name(make, log):
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: this machine does not have that address"):
        make(("192.0.2.1", 0))
    assert "Invalid address: ('192.0.2.1', 0)" in log.text()


def test_a_name_that_does_not_resolve_is_refused_at_once(make, pauses, monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(module.socket, "getaddrinfo", unknown)
    with pytest.raises(ListenError, match=r"http://no\.such\.host:80: the host name does not resolve"):
        make(("no.such.host", 80))
    assert pauses == []


def test_a_resolver_that_is_not_there_yet_is_waited_for(make, pauses, monkeypatch):
    real = socket.getaddrinfo

    def slow(*args, **kwargs):
        if len(pauses) < 2:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(*args, **kwargs)

    monkeypatch.setattr(module.socket, "getaddrinfo", slow)
    (listener,) = make(("localhost", 0))
    assert len(pauses) == 2
    assert listener.is_listening


def as_nobody(code, *args):
    """Run `code` without root's rights; returns its standard output."""
    drop = "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if ROOT else ""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + drop + code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.stdout.strip()


PRELUDE = """
import encodings.idna, logging, os, sys  # the codec, as nobody may not be able to read it later
from types import SimpleNamespace
import cyhorn.net.listeners as net
from cyhorn.errors import ListenError
logging.disable()
def attempt(address, uid, gid):
    cfg = SimpleNamespace(address=[address], backlog=5, reuse_port=False, umask=0, uid=uid, gid=gid,
                          is_ssl=False, certfile=None, keyfile=None)
    slept = []
    try:
        net.create_listeners(cfg, logging.getLogger(), sleep=slept.append)
    except ListenError as error:
        print(len(slept), error)
"""


def test_a_privileged_port_says_what_would_help():
    limit = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    if os.path.exists(limit):
        with open(limit) as file:
            if int(file.read()) <= 1:
                pytest.skip("this kernel has no privileged ports")
    said = as_nobody("attempt(('127.0.0.1', 1), os.getuid(), os.getgid())")
    assert said.startswith("0 cannot listen at http://127.0.0.1:1: no permission for port 1:")
    assert "CAP_NET_BIND_SERVICE" in said


# --- unix sockets


def test_a_unix_socket_has_the_umask_and_leaves_the_process_its_own(make, tmp_path):
    before = os.umask(0o027)
    try:
        for umask, mode in ((0, 0o777), (0o007, 0o770), (0o117, 0o660)):
            path = tmp_path / f"{umask}.sock"
            (listener,) = make(str(path), umask=umask)
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert str(listener) == f"unix:{path}"
            assert listener.path == str(path)
            assert talk(listener)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
@pytest.mark.rule(42)
def test_a_unix_socket_belongs_to_the_user_of_the_workers(make, tmp_path):
    path = tmp_path / "a.sock"
    make(str(path), uid=65534, gid=65533)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_a_socket_that_cannot_be_given_away_is_refused_and_removed():
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which nobody else may enter
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "a.sock")
        said = as_nobody("attempt(sys.argv[1], 0, 0)", path)
        assert said.startswith(f"0 cannot listen at unix:{path}: no permission")
        assert not os.path.exists(path)


def leave_stale(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


@pytest.mark.rule(4)
def test_a_stale_unix_socket_is_replaced(make, tmp_path):
    path = tmp_path / "a.sock"
    leave_stale(path)
    assert path.exists()
    (listener,) = make(str(path))
    assert talk(listener)


@pytest.mark.rule(4)
def test_a_live_unix_socket_is_refused_and_goes_on(make, tmp_path, pauses):
    path = tmp_path / "a.sock"
    (first,) = make(str(path))
    with pytest.raises(ListenError, match="in use"):
        make(str(path))
    assert len(pauses) == BIND_RETRIES
    assert talk(first)


def test_a_live_unix_socket_with_a_full_queue_is_refused(make, tmp_path):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as clients:
        server.bind(str(path))
        server.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        with pytest.raises(ListenError, match="in use"):
            make(str(path))
        assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(make, tmp_path, pauses):
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match=f"unix:{path}: the path exists and is not a socket"):
        make(str(path))
    assert path.read_text() == "precious"
    assert pauses == []


def test_a_datagram_socket_is_never_removed(make, tmp_path):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ListenError, match="another type"):
            make(str(path))
        assert path.exists()


def test_a_missing_directory_is_named(make, tmp_path, pauses):
    path = tmp_path / "none" / "a.sock"
    with pytest.raises(ListenError, match=f"unix:{path}: the directory '{path.parent}' does not exist"):
        make(str(path))
    assert pauses == []


def test_a_path_that_is_too_long_is_refused(make, tmp_path, pauses):
    with pytest.raises(ListenError, match=r"longer than \d+ bytes"):
        make(str(tmp_path / ("a" * 110)))
    assert pauses == []


def test_the_longest_path_is_bound(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a" * module.UNIX_PATH_MAX
    (listener,) = make(name)
    assert talk(listener)
    with pytest.raises(ListenError, match="longer than"):
        make(name + "a")


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace is Linux's")
def test_an_abstract_socket_has_no_file(make):
    (listener,) = make(f"\0cyhorn-test-{os.getpid()}")
    assert listener.path is None
    assert str(listener) == f"unix:@cyhorn-test-{os.getpid()}"
    assert talk(listener)
    close_listeners([listener])
    assert listener.fileno() == -1


# --- closing


def test_closing_removes_the_file_of_a_unix_socket(make, tmp_path):
    path = tmp_path / "a.sock"
    made = make(str(path))
    close_listeners(made)
    assert not path.exists()
    assert made[0].fileno() == -1
    assert not made[0].is_listening
    assert made[0].getsockname() == str(path)
    close_listeners(made)  # again: nothing


@pytest.mark.rule(18)
def test_a_successor_keeps_the_file(make, tmp_path):
    path = tmp_path / "a.sock"
    close_listeners(make(str(path)), unlink=False)
    assert path.exists()
    (listener,) = make(str(path))
    listener.disown()
    close_listeners([listener])
    assert path.exists()


@pytest.mark.rule(18)
def test_the_file_of_another_server_is_left_alone(make, tmp_path):
    path = tmp_path / "a.sock"
    (first,) = make(str(path))
    path.unlink()
    (second,) = make(str(path))
    close_listeners([first])
    assert path.exists()
    assert talk(second)


def test_only_the_process_that_bound_it_removes_the_file(make, tmp_path):
    path = tmp_path / "a.sock"
    (listener,) = make(str(path))
    child = os.fork()
    if child == 0:
        close_listeners([listener])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.exists()
    assert talk(listener)


def test_the_file_is_removed_after_a_change_of_directory(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make("a.sock")
    monkeypatch.chdir("/")
    close_listeners(made)
    assert not (tmp_path / "a.sock").exists()


# --- descriptors of others


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(7)
    return sock


def test_inherited_descriptors_keep_number_and_family_and_bind_is_not_used(make, tmp_path):
    path = str(tmp_path / "a.sock")
    socks = [listening(), listening(socket.AF_INET6, ("::1", 0)), listening(socket.AF_UNIX, path)]
    fds = [sock.detach() for sock in socks]
    made = make(("192.0.2.1", 1), fds=fds)
    assert [listener.fileno() for listener in made] == fds
    assert [listener.family for listener in made] == [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
    assert [str(listener).partition(":")[0] for listener in made] == ["http", "http", "unix"]
    assert all(listener.inherited for listener in made)
    assert all(listener.sock.get_inheritable() for listener in made)
    assert all(listener.gettimeout() == 0.0 for listener in made)
    assert all(talk(listener) for listener in made)


def test_a_descriptor_of_the_bind_setting_stands_beside_other_addresses(make):
    fd = listening().detach()
    made = make(fd, ("127.0.0.1", 0))
    assert made[0].fileno() == fd
    assert [listener.inherited for listener in made] == [True, False]
    assert all(talk(listener) for listener in made)


def test_a_bound_descriptor_is_made_to_listen(make):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    (listener,) = make(sock.detach())
    assert talk(listener)


def test_a_supervisors_unix_socket_is_never_removed(make, tmp_path):
    path = tmp_path / "a.sock"
    fd = listening(socket.AF_UNIX, str(path)).detach()
    close_listeners(make(fd))
    assert path.exists()


def test_a_successor_removes_the_file_that_its_own_bind_names(make, tmp_path):
    path = tmp_path / "a.sock"
    fd = listening(socket.AF_UNIX, str(path)).detach()
    close_listeners(make(str(path), fds=[fd]))
    assert not path.exists()


def test_a_successor_that_fails_leaves_file_and_listener_to_the_old_server(make, tmp_path):
    path = tmp_path / "a.sock"
    (old,) = make(str(path))
    with pytest.raises(ListenError, match="not open"):
        make(str(path), fds=[os.dup(old.fileno()), 987654])
    assert path.exists()
    assert talk(old)


def test_wrong_descriptors_are_refused_in_words_and_left_open(make, tmp_path):
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(ListenError, match=rf"fd://{file.fileno()}: the descriptor is not a socket"):
            make(file.fileno())
        os.fstat(file.fileno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        with pytest.raises(ListenError, match="not a TCP or unix stream socket"):
            make(udp.fileno())
        os.fstat(udp.fileno())
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises(ListenError, match=f"fd://{left.fileno()}"):
            make(left.fileno())
        os.fstat(left.fileno())
    with pytest.raises(ListenError, match=r"fd://987654: the descriptor is not open"):
        make(987654)


def test_the_same_descriptor_twice_is_one_listener(make):
    fd = listening().detach()
    assert len(make(fds=[fd, fd])) == 1


def test_descriptors_survive_an_exec(make, tmp_path):
    path = str(tmp_path / "a.sock")
    made = make(("127.0.0.1", 0), path)
    code = PRELUDE + (
        "cfg = SimpleNamespace(address=[sys.argv[2]], backlog=5, reuse_port=False, umask=0, uid=0, gid=0,\n"
        "                      is_ssl=False, certfile=None, keyfile=None)\n"
        "made = net.create_listeners(cfg, logging.getLogger(), [int(fd) for fd in sys.argv[1].split(',')])\n"
        "print(*made, all(listener.is_listening for listener in made))\n"
    )
    fds = [listener.fileno() for listener in made]
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(map(str, fds)), path],
        pass_fds=fds,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [*map(str, made), "True"]
    assert os.path.exists(path)
    assert all(talk(listener) for listener in made)


# --- reload


def test_a_reload_hands_on_what_is_asked_for_again(make, tmp_path):
    path, other = str(tmp_path / "a.sock"), str(tmp_path / "b.sock")
    old = make(("127.0.0.1", 0), path)
    new = make(other, path, ("127.0.0.1", 0), keep=old)
    assert new[1] is old[1]
    assert new[2] is old[0]
    assert all(talk(listener) for listener in new)


def test_a_reload_takes_a_new_backlog(make):
    old = make(("127.0.0.1", 0), backlog=64)
    (listener,) = make(("127.0.0.1", 0), keep=old, backlog=1)
    with contextlib.ExitStack() as clients:
        pending = 0
        for _ in range(8):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        pending = listener.get_backlog()
    if sys.platform == "linux":
        assert pending == 2  # Linux queues one more than the backlog


def test_a_reload_that_fails_leaves_the_old_listeners_as_they_are(make, tmp_path):
    old = make(("127.0.0.1", 0), str(tmp_path / "a.sock"))
    with pytest.raises(ListenError):
        make(str(tmp_path / "a.sock"), str(tmp_path / "none" / "b.sock"), keep=old)
    assert all(talk(listener) for listener in old)


def test_an_inherited_listener_is_known_again_by_the_name_that_bind_uses(make):
    (old,) = make(fds=[listening().detach()])
    port = old.getsockname()[1]
    (new,) = make(("localhost", port), keep=[old])
    assert new is old


def test_a_descriptor_of_bind_is_known_again(make):
    fd = listening().detach()
    old = make(fd)
    assert make(fd, keep=old) == old


# --- reuse_port


reuse_port = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT on this platform"
)


@reuse_port
def test_under_reuse_port_the_master_reserves_and_each_worker_listens(make, log):
    (reserved,) = make(("127.0.0.1", 0), reuse_port=True)
    assert not reserved.is_listening
    with socket.socket() as client:
        assert client.connect_ex(reserved.getsockname()) == errno.ECONNREFUSED
    cfg = config(reuse_port=True)
    copies = [Listener(socket.socket(fileno=os.dup(reserved.fileno())), reserved.address) for _ in range(2)]
    workers = [worker_listeners(cfg, log, [copy])[0] for copy in copies]
    with contextlib.ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.close)
        assert all(copy.fileno() == -1 for copy in copies)
        assert all(worker.is_listening for worker in workers)
        assert {worker.getsockname() for worker in workers} == {reserved.getsockname()}
        assert {str(worker) for worker in workers} == {str(reserved)}
        for _ in range(16):  # none goes to the reservation
            with socket.create_connection(reserved.getsockname(), timeout=5):
                pass
        assert sum(worker.get_backlog() for worker in workers) == 16 or sys.platform != "linux"


@reuse_port
def test_under_reuse_port_an_address_in_use_fails_in_the_master(make):
    (first,) = make(("127.0.0.1", 0))
    with pytest.raises(ListenError, match="in use"):
        make(first.getsockname(), reuse_port=True)


@reuse_port
def test_under_reuse_port_unix_sockets_and_a_supervisors_are_shared(make, log, tmp_path):
    fd = listening().detach()
    made = make(str(tmp_path / "a.sock"), fd, reuse_port=True)
    assert worker_listeners(config(reuse_port=True), log, made) == made
    assert all(talk(listener) for listener in made)


@reuse_port
def test_an_upgrade_under_reuse_port_inherits_the_reservation(make, log):
    (old,) = make(("127.0.0.1", 0), reuse_port=True)
    (new,) = make(("127.0.0.1", 0), fds=[os.dup(old.fileno())], reuse_port=True)
    assert not new.is_listening
    assert new.getsockname() == old.getsockname()
    (worker,) = worker_listeners(config(reuse_port=True), log, [new])
    with contextlib.closing(worker):
        assert talk(worker)


@reuse_port
def test_an_upgrade_that_gives_up_reuse_port_listens_in_the_master(make, log):
    (old,) = make(("127.0.0.1", 0), reuse_port=True)
    made = make(("127.0.0.1", 0), fds=[os.dup(old.fileno())])
    assert worker_listeners(config(), log, made) == made
    assert talk(made[0])


@reuse_port
def test_an_upgrade_that_takes_up_reuse_port_shares_the_old_socket(make, log):
    (old,) = make(("127.0.0.1", 0))
    made = make(fds=[os.dup(old.fileno())], reuse_port=True)
    assert worker_listeners(config(reuse_port=True), log, made) == made
    assert talk(made[0])


@reuse_port
def test_a_worker_that_cannot_bind_says_where(make, log, monkeypatch):
    (reserved,) = make(("127.0.0.1", 0), reuse_port=True)
    # Without the option the worker's socket conflicts with the reservation once somebody listens there.
    (worker,) = worker_listeners(
        config(reuse_port=True),
        log,
        [Listener(socket.socket(fileno=os.dup(reserved.fileno())), reserved.address)],
    )
    with contextlib.closing(worker):
        real = module.tcp_socket
        monkeypatch.setattr(module, "tcp_socket", lambda family, reuse_port: real(family, reuse_port=False))
        with pytest.raises(ListenError, match="in use"):
            worker_listeners(config(reuse_port=True), log, [reserved])


def test_without_reuse_port_workers_share_the_masters_listeners(make, log):
    made = make(("127.0.0.1", 0))
    assert worker_listeners(config(), log, made) == made


# --- TLS settings


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("certfile", "/no/such/file", "certfile: '/no/such/file' does not exist"),
        ("keyfile", "/no/such/file", "keyfile: '/no/such/file' does not exist"),
        ("keyfile", str(TLS / "client.key"), "is not the key of the certificate"),
        ("ca_certs", str(TLS / "server.key"), "holds no PEM certificate"),
    ],
)
def test_wrong_tls_settings_are_found_before_anything_is_bound(make, tmp_path, setting, value, says):
    path = tmp_path / "a.sock"
    with pytest.raises(ConfigError, match=says):
        make(str(path), **{**SERVER, setting: value})
    assert not path.exists()
    make(str(path), **SERVER)
    assert path.exists()


def test_with_a_hook_only_the_named_files_have_to_exist(make, tmp_path):
    path = tmp_path / "a.sock"
    hook = {"ssl_context": lambda config, factory: pytest.fail("the hook is for the workers")}
    with pytest.raises(ConfigError, match="keyfile: '/no/such/file' does not exist"):
        make(str(path), **{**SERVER, **hook, "keyfile": "/no/such/file"})
    make(str(path), **{**SERVER, **hook, "keyfile": str(TLS / "server-encrypted.key")})
    assert path.exists()
