"""Settings that a server starts with, one of which keeps the other from doing what it is for.

Each is a warning at start: the operator meant something by both, and gets one. What cannot be served
at all is refused elsewhere (`Config.problems`); a setting that merely finds nothing to do
(a prefix of metrics without a statsd) is left alone, since shared files hold many of those.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cyhorn.config import classes
from cyhorn.errors import ConfigError

if TYPE_CHECKING:
    from cyhorn.config.config import Config

#: The ways to configure logging, the one that counts before the others.
LOGGING = ("logconfig_dict", "logconfig_json", "logconfig")

#: What makes connections safer, where TLS is on.
OF_TLS = ("ca_certs", "cert_reqs", "ciphers", "ssl_context")


def contradictions(cfg: Config) -> Iterator[str]:
    """One line for each, which names the settings with their values' sources."""

    def named(*names: str) -> str:
        return " and ".join(f"{name} ({cfg.settings[name].source})" for name in names)

    if cfg.reload and cfg.preload_app:
        yield f"{named('reload', 'preload_app')}: changes are not seen in what the master has loaded"
    if cfg.daemon and not cfg.enable_stdio_inheritance:
        for name in ("errorlog", "accesslog"):
            if cfg.settings[name].value == "-":
                yield f"{named(name, 'daemon')}: in the background this log goes nowhere; name a file"
    if cfg.is_ssl:
        if cfg.cert_reqs and not cfg.ca_certs and cfg.ssl_context is None:
            yield f"{named('cert_reqs', 'ca_certs')}: there is nothing to verify certificates by"
    elif useless := [name for name in OF_TLS if cfg.settings[name].used]:
        yield f"{named(*useless)}: there is no TLS, as certfile is not set"
    if not cfg.workers:
        yield f"workers = 0 ({cfg.settings['workers'].source}): requests wait until SIGTTIN adds a worker"
    if cfg.max_requests_jitter and not cfg.max_requests:
        yield f"{named('max_requests_jitter', 'max_requests')}: workers are never replaced"
    configured = [name for name in LOGGING if cfg.settings[name].value]
    if len(configured) > 1:
        yield f"{named(*configured)}: only {configured[0]} counts"
    if cfg.statsd_host is not None and cfg.settings["logger_class"].used and not _sends_metrics(cfg):
        yield (
            f"{named('statsd_host', 'logger_class')}: no metrics are sent, as only {classes.STATSD} and its"
            " subclasses do"
        )


def _sends_metrics(cfg: Config) -> bool:
    """Whether the logger is a Statsd. That one does not load is told elsewhere."""
    try:
        logger = classes.LOGGERS.load(cfg.logger_uri())
    except ConfigError:
        return True
    return isinstance(logger, type) and issubclass(logger, classes.LOGGERS.load(classes.STATSD))
