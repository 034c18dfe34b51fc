"""Rows: error log, access log, syslog, statsd."""

from __future__ import annotations

import sys

from cyhorn.config import validators as v
from cyhorn.config.row import Row

LOGGING = "Logging"

ACCESS_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

SYSLOG_UDP = "udp://localhost:514"
#: Where it listens elsewhere, by the start of sys.platform.
SYSLOG = {
    "darwin": "unix:///var/run/syslog",
    "freebsd": "unix:///var/run/log",
    "dragonfly": "unix:///var/run/log",
    "openbsd": "unix:///dev/log",
}

ROWS = (
    Row(
        name="accesslog",
        section=LOGGING,
        kind=v.PATH,
        flags=("--access-logfile",),
        metavar="FILE",
        meaning="The file of the access log; - is standard output. Not set means no access log.",
    ),
    Row(
        name="disable_redirect_access_to_syslog",
        section=LOGGING,
        kind=v.BOOL,
        flags=("--disable-redirect-access-to-syslog",),
        action="store_true",
        default=False,
        meaning="Keep the access log out of syslog.",
    ),
    Row(
        name="access_log_format",
        section=LOGGING,
        kind=v.STRING,
        flags=("--access-logformat",),
        metavar="FORMAT",
        default=ACCESS_FORMAT,
        meaning=(
            "The format of access lines, of %(NAME)s atoms: h peer, l -, u user of basic authentication, t"
            " time, r request line, m method, U path, q query, H protocol, s status, B bytes sent, b the same"
            " or -, f referer, a user agent, T seconds, M milliseconds, D microseconds, L decimal seconds, p"
            " process id, {NAME}i a request field, {NAME}o a response field, {NAME}e an environ key."
        ),
    ),
    Row(
        name="errorlog",
        section=LOGGING,
        kind=v.PATH,
        flags=("--error-logfile", "--log-file"),
        metavar="FILE",
        default="-",
        meaning="The file of the error log; - is standard error.",
    ),
    Row(
        name="loglevel",
        section=LOGGING,
        kind=v.STRING,
        flags=("--log-level",),
        metavar="LEVEL",
        default="info",
        meaning="The least level that the error log shows: debug, info, warning or warn, error, critical.",
    ),
    Row(
        name="capture_output",
        section=LOGGING,
        kind=v.BOOL,
        flags=("--capture-output",),
        action="store_true",
        default=False,
        meaning="Send standard output and standard error to the file of errorlog.",
    ),
    Row(
        name="logger_class",
        section=LOGGING,
        kind=v.CLASS,
        flags=("--logger-class",),
        metavar="CLASS",
        default="cyhorn.log.logger.Logger",
        meaning=(
            "The class that writes logs: a dotted path, a class, or an entry point of the group"
            " cyhorn.loggers or gunicorn.loggers."
        ),
        differs="the default is cyhorn's; gunicorn.glogging.Logger means the same",
    ),
    Row(
        name="logconfig",
        section=LOGGING,
        kind=v.PATH,
        flags=("--log-config",),
        metavar="FILE",
        meaning="An ini file for logging.config.fileConfig.",
        differs=(
            "the loggers are cyhorn.error and cyhorn.access; what a file says of gunicorn.error and"
            " gunicorn.access counts for them"
        ),
    ),
    Row(
        name="logconfig_dict",
        section=LOGGING,
        kind=v.DICT,
        default={},
        meaning="A dict for logging.config.dictConfig. It wins over logconfig_json and logconfig.",
        differs=(
            "the loggers are cyhorn.error and cyhorn.access; what a file says of gunicorn.error and"
            " gunicorn.access counts for them"
        ),
    ),
    Row(
        name="logconfig_json",
        section=LOGGING,
        kind=v.PATH,
        flags=("--log-config-json",),
        metavar="FILE",
        meaning="A JSON file with a dict for logging.config.dictConfig. It wins over logconfig.",
        differs=(
            "the loggers are cyhorn.error and cyhorn.access; what a file says of gunicorn.error and"
            " gunicorn.access counts for them"
        ),
    ),
    Row(
        name="syslog_addr",
        section=LOGGING,
        kind=v.STRING,
        flags=("--log-syslog-to",),
        metavar="ADDRESS",
        default=next((place for name, place in SYSLOG.items() if sys.platform.startswith(name)), SYSLOG_UDP),
        default_text="udp://localhost:514, on BSD and macOS the system's socket",
        meaning=(
            "Where syslog listens: udp://HOST:PORT, tcp://HOST:PORT, unix://PATH, the last optionally"
            " followed by #dgram or #stream."
        ),
    ),
    Row(
        name="syslog",
        section=LOGGING,
        kind=v.BOOL,
        flags=("--log-syslog",),
        action="store_true",
        default=False,
        meaning="Send logs to syslog.",
    ),
    Row(
        name="syslog_prefix",
        section=LOGGING,
        kind=v.STRING,
        flags=("--log-syslog-prefix",),
        metavar="TEXT",
        meaning=(
            "What stands between cyhorn and the log's name in the program name that syslog sees. Not set"
            " means the process name."
        ),
        differs="the program name begins with cyhorn, not gunicorn",
    ),
    Row(
        name="syslog_facility",
        section=LOGGING,
        kind=v.STRING,
        flags=("--log-syslog-facility",),
        metavar="NAME",
        default="user",
        meaning="The facility of messages to syslog.",
    ),
    Row(
        name="enable_stdio_inheritance",
        section=LOGGING,
        kind=v.BOOL,
        flags=("-R", "--enable-stdio-inheritance"),
        action="store_true",
        default=False,
        meaning="Keep standard output and standard error open in the background (daemon).",
    ),
    Row(
        name="statsd_host",
        section=LOGGING,
        kind=v.STATSD,
        flags=("--statsd-host",),
        metavar="ADDRESS",
        meaning="The statsd server that gets metrics: HOST, HOST:PORT or unix://PATH.",
        differs=(
            "metrics begin with cyhorn, not gunicorn; statsd_metric_namespace = gunicorn brings the old"
            " names back"
        ),
    ),
    Row(
        name="dogstatsd_tags",
        section=LOGGING,
        kind=v.STRING,
        flags=("--dogstatsd-tags",),
        metavar="TAGS",
        default="",
        meaning="Tags for every metric, separated by commas, in dogstatsd's format.",
    ),
    Row(
        name="statsd_prefix",
        section=LOGGING,
        kind=v.STRING,
        flags=("--statsd-prefix",),
        metavar="TEXT",
        default="",
        meaning="What the names of metrics begin with. A dot is put after it where it has none.",
    ),
    Row(
        name="statsd_metric_namespace",
        section=LOGGING,
        kind=v.STRING,
        scope="N",
        flags=("--statsd-metric-namespace",),
        metavar="TEXT",
        default="cyhorn",
        meaning=(
            "The first part of the names of metrics, after statsd_prefix. The value gunicorn keeps dashboards"
            " working."
        ),
    ),
    Row(
        name="enable_backlog_metric",
        section=LOGGING,
        kind=v.BOOL,
        flags=("--enable-backlog-metric",),
        action="store_true",
        default=False,
        meaning="Send how many connections wait in the kernel as a metric (Linux, TCP).",
        differs="the metric is cyhorn.backlog",
    ),
)
