"""StatsD (and DogStatsD) metrics from what is logged: one datagram for each.

`Statsd` is a logger whose every `access` counts and times a request, whose warnings and errors are
counted, and any of whose messages can carry a metric: ``extra={"metric": name, "value": 3,
"mtype": "gauge"}``. Names begin with `cfg.statsd_metric_namespace` (cyhorn).

A daemon that is away or slow is no one's problem: the socket never blocks, what it does not take is dropped
and said once per outage, and nothing is raised.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cyhorn.log.logger import Logger
from cyhorn.native import native

METRIC = "metric"
VALUE = "value"
MTYPE = "mtype"

GAUGE = "gauge"
COUNTER = "counter"
HISTOGRAM = "histogram"
TIMER = "timer"

#: What metric names of the server's own messages begin with before the namespace is applied.
NAMESPACE = "cyhorn"

#: Seconds between two attempts to reach a unix socket that is away.
RETRY = 1.0

#: Seconds without a failure after which the next one is news. Over UDP every other datagram to
#: nobody is taken without a word.
QUIET = 10.0


class Statsd(Logger):
    """A Logger that sends metrics to `cfg.statsd_host`, a (host, port) or the path of a unix socket."""

    def __init__(self, cfg: Any) -> None:
        self.sock: socket.socket | None = None
        self.prefix = ""
        self.dogstatsd_tags = ""
        self.namespace = NAMESPACE
        self._address: Any = None
        self._news_at = 0.0
        self._retry_at = 0.0
        super().__init__(cfg)

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        prefix = cfg.statsd_prefix.rstrip(".")
        self.prefix = f"{prefix}." if prefix else ""
        self.dogstatsd_tags = cfg.dogstatsd_tags
        self.namespace = getattr(cfg, "statsd_metric_namespace", None) or NAMESPACE
        if self.sock is None or cfg.statsd_host != self._address:
            self._address = cfg.statsd_host
            self._connect()

    # --- logging that counts ---

    def critical(self, msg: object, *args: Any, **kwargs: Any) -> None:
        super().critical(msg, *args, **kwargs)
        self.increment(f"{self.namespace}.log.critical", 1)

    def error(self, msg: object, *args: Any, **kwargs: Any) -> None:
        super().error(msg, *args, **kwargs)
        self.increment(f"{self.namespace}.log.error", 1)

    def warning(self, msg: object, *args: Any, **kwargs: Any) -> None:
        super().warning(msg, *args, **kwargs)
        self.increment(f"{self.namespace}.log.warning", 1)

    def exception(self, msg: object, *args: Any, **kwargs: Any) -> None:
        super().exception(msg, *args, **kwargs)
        self.increment(f"{self.namespace}.log.exception", 1)

    def info(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log `msg`, unless it is empty, and send the metric that `extra` describes, if it does."""
        self._send_extra(kwargs.get("extra"))
        if msg:
            super().log(lvl, msg, *args, **kwargs)

    def _send_extra(self, extra: Any) -> None:
        if not isinstance(extra, Mapping):
            return
        metric, value, kind = extra.get(METRIC), extra.get(VALUE), extra.get(MTYPE)
        if not metric or value is None:
            return
        name = str(metric)
        if name.startswith(f"{NAMESPACE}."):
            name = self.namespace + name[len(NAMESPACE) :]
        if kind == GAUGE:
            self.gauge(name, value)
        elif kind == COUNTER:
            self.increment(name, value)
        elif kind == HISTOGRAM:
            self.histogram(name, value)
        elif kind == TIMER:
            self.timer(name, value)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Write the access line, where one is wanted, and count and time the request."""
        super().access(resp, req, environ, request_time)
        status = resp.status
        if isinstance(status, bytes):
            status = status.decode("latin-1")
        if isinstance(status, str):
            status = status[:3]
        self.timer(f"{self.namespace}.request.duration", request_time / timedelta(milliseconds=1))
        self.increment(f"{self.namespace}.requests", 1)
        self.increment(f"{self.namespace}.request.status.{status}", 1)

    # --- metrics ---

    def gauge(self, name: str, value: Any) -> None:
        """Set the gauge `name`."""
        self._sock_send(f"{self.prefix}{name}:{value}|g")

    def increment(self, name: str, value: Any, sampling_rate: float = 1.0) -> None:
        """Add to the counter `name`."""
        self._sock_send(f"{self.prefix}{name}:{value}|c|@{sampling_rate}")

    def decrement(self, name: str, value: Any, sampling_rate: float = 1.0) -> None:
        """Subtract from the counter `name`."""
        self._sock_send(f"{self.prefix}{name}:-{value}|c|@{sampling_rate}")

    def timer(self, name: str, value: Any) -> None:
        """Record a duration of `value` milliseconds."""
        self._sock_send(f"{self.prefix}{name}:{value}|ms")

    def histogram(self, name: str, value: Any) -> None:
        """Record `value` in the histogram `name`."""
        self._sock_send(f"{self.prefix}{name}:{value}|h")

    # --- the socket ---

    def _connect(self) -> None:
        """Make the socket for the address. Never raises."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        address = self._address
        if not address:
            return
        family: int = socket.AF_UNIX
        try:
            if not isinstance(address, str):
                found = native("socket", "getaddrinfo")(address[0], int(address[1]), type=socket.SOCK_DGRAM)
                family, _, _, _, address = found[0]
            sock = native("socket", "socket")(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                sock.connect(address)
            except OSError:
                sock.close()
                raise
            self.sock = sock
        except (OSError, ValueError, TypeError, IndexError) as cause:
            self._failed(cause)

    def _failed(self, cause: Exception) -> None:
        """Say once per outage that metrics are dropped."""
        now = time.monotonic()
        news = now >= self._news_at
        self._news_at = now + QUIET
        self._retry_at = now + RETRY
        if news:
            # The plain logger's: this warning is no metric.
            Logger.warning(self, "Cannot send metrics to statsd at %s: %s", self._address, cause)

    def _sock_send(self, msg: str | bytes) -> None:
        """Send one metric, or drop it. Never raises."""
        try:
            data = msg.encode(errors="backslashreplace") if isinstance(msg, str) else msg
            if self.dogstatsd_tags:
                data += b"|#" + self.dogstatsd_tags.encode(errors="backslashreplace")
            if self.sock is None:
                # A name is looked up at the start only: that can take seconds.
                if not isinstance(self._address, str) or time.monotonic() < self._retry_at:
                    return
                self._connect()
                if self.sock is None:
                    return
            self.sock.send(data)
        except BlockingIOError:
            pass  # the daemon does not keep up
        except ConnectionRefusedError as cause:
            # UDP: an earlier datagram found no one. Unix: the daemon was started anew.
            self._failed(cause)
            if isinstance(self._address, str) and self.sock is not None:
                self.sock.close()
                self.sock = None
        except Exception as cause:
            self._failed(cause)
