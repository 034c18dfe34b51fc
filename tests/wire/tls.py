"""One delivery of a case over TLS: each turn of the client in one record, to a loop in this thread.

What TLS changes is between the socket and the loop (records, close_notify, no sendfile), not how bytes
are cut, so the other deliveries are made in plain text alone. Left out are cases that name a transport,
a scheme or a port, which over TLS are others, and those that send a file: over TLS it is read, and its
length is not known with the head.
"""

from __future__ import annotations

import functools
import socket
import ssl
from pathlib import Path
from typing import Any

from tests.loop.driver import Served
from tests.wire import applications
from tests.wire.case import Case
from tests.wire.deliver import Client, Plan, check, converse, judge_log, leave, loop_options, plans

_KEYS = Path(__file__).resolve().parents[1] / "data" / "tls"
_OF_THE_TRANSPORT = {"wsgi.url_scheme", "SERVER_PORT"}


@functools.cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context and the client's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(_KEYS / "server.pem", _KEYS / "server.key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


def goes_over_tls(case: Case) -> bool:
    """Whether the case means the same over TLS."""
    if case.over is not None or b" /app/file_" in case.data:
        return False
    return not any(_OF_THE_TRANSPORT & answer.environ.keys() for answer in case.answers)


class TLSLoops:
    """The loops of one side behind TLS, one for each group of settings, made when first used."""

    def __init__(self, impl: Any, folder: Path) -> None:
        self.impl = impl
        self.folder = folder
        self._served: dict[Any, Served] = {}

    def served(self, case: Case) -> Served:
        """The loop that serves `case`."""
        if case.group not in self._served:
            self._served[case.group] = Served(
                self.impl,
                applications.application,
                ssl_context=_contexts()[0],
                unix=str(self.folder / f"{self.impl.name}-tls-{len(self._served)}"),
                **loop_options(case)._asdict(),
            )
        return self._served[case.group]

    def close(self) -> None:
        """End them all."""
        for served in self._served.values():
            served.close()


class _TLSClient(Client):
    """A client whose bytes go through TLS. The handshake is done by its first send."""

    def __init__(self, sock: socket.socket, case: Case, plan: Plan) -> None:
        secure = _contexts()[1].wrap_socket(sock, do_handshake_on_connect=False)
        super().__init__(secure, case, plan)

    def speak(self) -> None:
        try:
            super().speak()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    def _shut(self) -> None:
        self.shut = True
        try:
            # SSLSocket's own would leave what still comes encrypted.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:
            pass

    def listen(self) -> None:
        try:
            super().listen()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except BrokenPipeError:
            self.ended = True  # a stream that was cut: OpenSSL 3.6 wants to tell the peer, which has gone


def over_tls(case: Case, loops: TLSLoops) -> int:
    """Deliver `case` whole, over TLS. Returns how many deliveries that was, 0 where it does not go over TLS."""
    if not goes_over_tls(case):
        return 0
    served = loops.served(case)
    served.log.lines.clear()
    plan = next(plans(case))
    ours, theirs = socket.socketpair()
    served.loop.adopt(theirs)
    client = _TLSClient(ours, case, plan)

    def serve() -> None:
        served.turn(0)

    try:
        converse([client], serve, 0.0)
        check(case, plan, client.output)
        leave(client, serve)
    finally:
        client.sock.close()
        served.turn(0)
    judge_log(case, served, 1)
    return 1
