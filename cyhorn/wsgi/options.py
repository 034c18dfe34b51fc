"""What the loop has to know, computed once at worker boot.

Fields that carry the name of a setting hold that setting's value; the others say
what they are. The loop reads no configuration object: it copies these into fields
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from cyhorn.native import native

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


def wait_by_poll(fd: int, events: int, seconds: float) -> bool:
    """Wait at most `seconds` until the descriptor `fd` has one of `events` (of poll); return whether it has.

    The whole thread waits.
    """
    poll = native("select", "poll")()
    poll.register(fd, events)
    return bool(poll.poll(seconds * 1000))


class LoopOptions(NamedTuple):
    """Settings of the request cycle. Times are seconds, sizes bytes; 0 is "off" or "no limit"."""

    # Timers. Each has one duration, so that order of insertion is order of expiry.
    client_header_timeout: float = 10.0  # the whole head
    client_body_timeout: float = 30.0  # between two reads of the body
    send_timeout: float = 30.0  # between two writes
    keepalive: float = 75.0  # an idle connection; 0 closes after each response
    linger_timeout: float = 5.0  # reading and dropping before a close
    tick: float = 1.0  # the longest sleep: heartbeat and `on_tick`

    # Limits of the head
    limit_request_line: int = 8190
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190

    # Bodies
    limit_request_body: int = 0
    buffer_request_body: bool = True
    body_buffer_size: int = 1 << 20
    response_buffer_size: int = 1 << 20
    response_spool_size: int = 1 << 30
    tmp_upload_dir: str | None = None
    sendfile: bool = True

    # What relaxes the grammar
    permit_obsolete_folding: bool = False
    strip_header_spaces: bool = False
    permit_unconventional_http_method: bool = False
    permit_unconventional_http_version: bool = False
    casefold_http_method: bool = False
    header_map: str = "drop"

    # What is believed of whom. None instead of networks is "everybody".
    forwarded_allow_ips: Sequence[IPv4Network | IPv6Network] | None = ()
    forwarder_headers: Sequence[str] = ("SCRIPT_NAME", "PATH_INFO")
    secure_scheme_headers: Mapping[str, str] = MappingProxyType({})
    proxy_protocol: str = "off"
    proxy_allow_ips: Sequence[IPv4Network | IPv6Network] | None = ()

    # TLS
    suppress_ragged_eofs: bool = True

    # The application's surroundings
    server_header: str = "cyhorn"
    script_name: str = ""  # SCRIPT_NAME of the process environment
    multithread: bool = False
    multiprocess: bool = False
    shared_listeners: bool = True  # other workers accept what this one leaves in the queue
    max_calls: int = 0  # calls of the application at a time, see Loop.lead; 0: one, in the loop's own thread
    max_connections: int = 0  # open at a time; further ones wait in the kernel's queue
    timeout: float = 0.0  # a call that takes longer is stuck
    # How a request that is in the application waits for its client: a worker that can do something else
    # meanwhile puts its own here.
    wait: Callable[[int, int, float], bool] = wait_by_poll
    context_isolation: bool = True
    max_requests: int = 0  # jitter included

    # Hooks and logs: None or a callable, so that the loop tests a pointer.
    # (request)
    pre_request: Callable[[Any], None] | None = None
    # (request, environ, response)
    post_request: Callable[[Any, dict[str, Any], Any], None] | None = None
    # The access log: AccessLines of the loop's own side, or, where a logger makes the lines, a callable:
    # (request, response, environ, seconds)
    access_lines: Any = None
    access_with_request: Callable[[Any, Any, dict[str, Any], float], None] | None = None
    # at least every `tick` seconds
    on_tick: Callable[[], None] | None = None
