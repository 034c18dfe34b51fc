"""Rows: the config file, sockets, worker processes, process naming, mechanics, debugging."""

from __future__ import annotations

from cyhorn.config import validators as v
from cyhorn.config.row import Row

FILE, SOCKET, WORKERS = "Config File", "Server Socket", "Worker Processes"
MECHANICS, DEBUGGING, NAMING, CONTROL = "Server Mechanics", "Debugging", "Process Naming", "Control"

ROWS = (
    # -- config file
    Row(
        name="config",
        section=FILE,
        kind=v.STRING,
        flags=("-c", "--config"),
        metavar="FILE",
        default="./cyhorn.conf.py",
        meaning=(
            "The config file: PATH, file:PATH or python:MODULE. A name that ends in .toml is read as TOML."
            " Without it the first of ./cyhorn.conf.py, ./cyhorn.toml, the table [tool.cyhorn] in"
            " ./pyproject.toml and ./gunicorn.conf.py is read that exists. A config file cannot name another"
            " one."
        ),
        differs="Gunicorn looks for ./gunicorn.conf.py only, and reads no TOML",
    ),
    Row(
        name="wsgi_app",
        section=FILE,
        kind=v.STRING,
        metavar="APP",
        meaning=(
            "The application, as MODULE:NAME, where the command line names none. MODULE alone means"
            " MODULE:application; MODULE:NAME(...) calls a factory with literal arguments."
        ),
    ),
    Row(
        name="gunicorn_compat",
        section=FILE,
        kind=v.BOOL,
        scope="N",
        flags=("--gunicorn-compat",),
        no_flags=("--no-gunicorn-compat",),
        action="store_true",
        default=False,
        meaning=(
            "Let config files and applications that import gunicorn find cyhorn's modules under those names"
            " when Gunicorn is not installed. For a config file that does so itself it is given on the"
            " command line or by CYHORN_GUNICORN_COMPAT=1, as the file would be too late."
        ),
    ),
    # -- server socket
    Row(
        name="bind",
        section=SOCKET,
        kind=v.LIST,
        flags=("-b", "--bind"),
        metavar="ADDRESS",
        action="append",
        default=["127.0.0.1:8000"],
        env="PORT",
        read_env=lambda port: [f"0.0.0.0:{port}"],
        meaning=(
            "The addresses to listen on: HOST, HOST:PORT, [V6]:PORT, unix:PATH or fd://N. The flag may be"
            " repeated; in a config file a list gives several. PORT in the environment makes the default"
            " 0.0.0.0:$PORT."
        ),
    ),
    Row(
        name="backlog",
        section=SOCKET,
        kind=v.POS_INT,
        flags=("--backlog",),
        metavar="INT",
        default=2048,
        meaning="How many connections may wait in the kernel to be accepted.",
    ),
    Row(
        name="reuse_port",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--reuse-port",),
        action="store_true",
        default=False,
        meaning="Set SO_REUSEPORT on the listening sockets.",
        differs="USR2 works with it",
    ),
    # -- worker processes
    Row(
        name="workers",
        section=WORKERS,
        kind=v.POS_INT,
        flags=("-w", "--workers"),
        metavar="INT",
        default=1,
        env="WEB_CONCURRENCY",
        meaning="How many worker processes serve requests.",
    ),
    Row(
        name="worker_class",
        section=WORKERS,
        kind=v.CLASS,
        flags=("-k", "--worker-class"),
        metavar="CLASS",
        default="sync",
        meaning=(
            "The kind of worker: a short name (sync, gthread, gevent), a dotted path, egg:DIST#NAME, an entry"
            " point of the group cyhorn.workers or gunicorn.workers, a class, or a function that returns one."
        ),
        differs=(
            "Gunicorn's sync serves one connection at a time; this one holds many, with"
            " keep-alive and pipelining, and one request at a time. gevent_wsgi and gevent_pywsgi are the"
            " gevent worker. eventlet, tornado and asgi are not served"
        ),
    ),
    Row(
        name="threads",
        section=WORKERS,
        kind=v.POS_INT,
        scope="P",
        flags=("--threads",),
        metavar="INT",
        default=1,
        meaning="Threads per worker. More than one turns the sync worker into gthread.",
    ),
    Row(
        name="worker_connections",
        section=WORKERS,
        kind=v.POS_INT,
        scope="P",
        flags=("--worker-connections",),
        metavar="INT",
        default=1000,
        meaning=(
            "The most connections that a gthread or gevent worker keeps open at a time, and the most calls of"
            " the application that a gevent worker makes at a time. A sync worker holds"
            " as many as come, within its limit of open files, and says so at start when this is set."
        ),
    ),
    Row(
        name="max_requests",
        section=WORKERS,
        kind=v.POS_INT,
        flags=("--max-requests",),
        metavar="INT",
        default=0,
        meaning="Replace a worker after this many requests. 0 is never.",
        differs="the replacement boots when the worker begins to stop, not when it is gone",
    ),
    Row(
        name="max_requests_jitter",
        section=WORKERS,
        kind=v.POS_INT,
        flags=("--max-requests-jitter",),
        metavar="INT",
        default=0,
        meaning=(
            "Add a random number from 0 to this one to max_requests, so that workers are not replaced"
            " together."
        ),
    ),
    Row(
        name="timeout",
        section=WORKERS,
        kind=v.POS_INT,
        flags=("-t", "--timeout"),
        metavar="SECONDS",
        default=30,
        meaning=(
            "A worker that shows no sign of life for this many seconds is aborted, then killed, and replaced."
            " 0 is never."
        ),
        differs="waiting for a client does not count here, as clients do not hold workers",
    ),
    Row(
        name="graceful_timeout",
        section=WORKERS,
        kind=v.POS_INT,
        flags=("--graceful-timeout",),
        metavar="SECONDS",
        default=30,
        meaning="How many seconds workers get to finish their requests when they are told to stop.",
    ),
    Row(
        name="reload_concurrency",
        section=WORKERS,
        kind=v.COUNT,
        scope="N",
        flags=("--reload-concurrency",),
        metavar="INT",
        default=2,
        meaning="How many new workers boot at a time during a reload.",
    ),
    Row(
        name="context_isolation",
        section=WORKERS,
        kind=v.BOOL,
        scope="N",
        flags=("--context-isolation",),
        no_flags=("--no-context-isolation",),
        action="store_true",
        default=True,
        meaning="Run each request in a contextvars context of its own.",
    ),
    Row(
        name="gc_freeze",
        section=WORKERS,
        kind=v.BOOL,
        scope="N",
        flags=("--gc-freeze",),
        no_flags=("--no-gc-freeze",),
        action="store_true",
        default=True,
        meaning=(
            "Take what was loaded before the first request out of the garbage collector's view (gc.freeze),"
            " so that collections are short and pages stay shared."
        ),
    ),
    # -- debugging
    Row(
        name="reload",
        section=DEBUGGING,
        kind=v.BOOL,
        flags=("--reload",),
        action="store_true",
        default=False,
        meaning="Restart workers when their code changes. For development.",
        differs="an application that does not load is waited for, and its traceback served",
    ),
    Row(
        name="reload_engine",
        section=DEBUGGING,
        kind=v.choice("auto", "poll", "inotify"),
        flags=("--reload-engine",),
        metavar="ENGINE",
        default="auto",
        meaning="How reload notices changes: auto, poll or inotify.",
        differs="inotify needs no package, and watches the files in use, not their directories",
    ),
    Row(
        name="reload_extra_files",
        section=DEBUGGING,
        kind=v.FILES,
        flags=("--reload-extra-file",),
        metavar="FILE",
        action="append",
        default=[],
        meaning="Further files, or glob patterns, that reload watches.",
    ),
    Row(
        name="spew",
        section=DEBUGGING,
        kind=v.BOOL,
        flags=("--spew",),
        action="store_true",
        default=False,
        meaning="Print every line of Python that runs.",
    ),
    Row(
        name="check_config",
        section=DEBUGGING,
        kind=v.BOOL,
        flags=("--check-config",),
        action="store_true",
        default=False,
        meaning="Check the settings, load the application, and exit: 0 when all is well, 1 otherwise.",
        differs=(
            "Gunicorn loads the application; here addresses, certificates, users, classes, log files and"
            " all values are checked too, and all problems told at once"
        ),
    ),
    Row(
        name="print_config",
        section=DEBUGGING,
        kind=v.BOOL,
        flags=("--print-config",),
        action="store_true",
        default=False,
        meaning="Print every setting's value and where it came from, then do what check_config does.",
        differs="each value is shown with where it came from",
    ),
    # -- mechanics
    Row(
        name="preload_app",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--preload",),
        action="store_true",
        default=False,
        meaning="Load the application in the master, before workers are forked.",
        differs="a reload loads the application anew, after a trial in a child; Gunicorn keeps the old one",
    ),
    Row(
        name="sendfile",
        section=MECHANICS,
        kind=v.BOOL,
        no_flags=("--no-sendfile",),
        default=None,
        env="SENDFILE",
        read_env=lambda text: text.strip().lower() in ("y", "1", "yes", "true"),
        default_text="on",
        meaning="Send files by sendfile(2). Not set means on; SENDFILE=0 in the environment turns it off.",
        differs="True turns it on; in Gunicorn any value turns it off",
    ),
    Row(
        name="chdir",
        section=MECHANICS,
        kind=v.DIRECTORY,
        flags=("--chdir",),
        metavar="DIR",
        default=".",
        default_text="the directory of the start",
        meaning="Change to this directory before the application is loaded, and put it in sys.path.",
    ),
    Row(
        name="daemon",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("-D", "--daemon"),
        action="store_true",
        default=False,
        meaning="Leave the terminal and run in the background.",
    ),
    Row(
        name="raw_env",
        section=MECHANICS,
        kind=v.PAIRS,
        flags=("-e", "--env"),
        metavar="KEY=VALUE",
        action="append",
        default=[],
        meaning="Variables to set in the environment of the server and the application.",
    ),
    Row(
        name="pidfile",
        section=MECHANICS,
        kind=v.PATH,
        flags=("-p", "--pid"),
        metavar="FILE",
        meaning="Where the master writes its process id.",
    ),
    Row(
        name="worker_tmp_dir",
        section=MECHANICS,
        kind=v.PATH,
        flags=("--worker-tmp-dir",),
        metavar="DIR",
        note="heartbeats are in shared memory and need no directory",
        meaning=(
            "Gunicorn's directory for heartbeat files. cyhorn's heartbeats are in shared memory and need no"
            " file, so that no disk can delay them; the value changes nothing."
        ),
        differs="it has no use: heartbeats are in shared memory",
    ),
    Row(
        name="user",
        section=MECHANICS,
        kind=v.USER,
        flags=("-u", "--user"),
        metavar="USER",
        default_text="the user who starts it",
        meaning="The user that workers run as: a name or a number.",
    ),
    Row(
        name="group",
        section=MECHANICS,
        kind=v.GROUP,
        flags=("-g", "--group"),
        metavar="GROUP",
        default_text="the group of the start",
        meaning="The group that workers run as: a name or a number.",
    ),
    Row(
        name="umask",
        section=MECHANICS,
        kind=v.MODE,
        flags=("-m", "--umask"),
        metavar="MODE",
        default=0,
        meaning=(
            "The mask for the modes of unix sockets and of files that cyhorn makes. 0022 is read as octal."
        ),
    ),
    Row(
        name="initgroups",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--initgroups",),
        action="store_true",
        default=False,
        meaning="Give workers all the groups of their user.",
    ),
    Row(
        name="pythonpath",
        section=MECHANICS,
        kind=v.STRING,
        flags=("--pythonpath",),
        metavar="DIRS",
        meaning="Directories, separated by commas, to put in front of sys.path.",
    ),
    Row(
        name="paste",
        section=MECHANICS,
        kind=v.STRING,
        flags=("--paste", "--paster"),
        metavar="FILE",
        meaning=(
            "A Paste Deploy file to load the application from, optionally with #NAME. Its section"
            " [server:main] may hold settings, and its [loggers] configure logging. It needs PasteDeploy:"
            " pip install cyhorn[paste]."
        ),
    ),
    Row(
        name="raw_paste_global_conf",
        section=MECHANICS,
        kind=v.PAIRS,
        flags=("--paste-global",),
        metavar="KEY=VALUE",
        action="append",
        default=[],
        meaning="Values for the global section of a Paste Deploy file. An = in a key is written \\=.",
    ),
    # -- process naming
    Row(
        name="proc_name",
        section=NAMING,
        kind=v.STRING,
        flags=("-n", "--name"),
        metavar="NAME",
        meaning="The name of the processes in ps and top. Not set means default_proc_name.",
        differs="process titles begin with cyhorn:",
    ),
    Row(
        name="default_proc_name",
        section=NAMING,
        kind=v.STRING,
        default="cyhorn",
        meaning="What proc_name is when it is not set. The server puts the application's name here.",
        differs="the default is cyhorn",
    ),
    # -- control
    Row(
        name="control_socket",
        section=CONTROL,
        kind=v.PATH,
        flags=("--control-socket",),
        metavar="PATH",
        default_text="a file of each instance's own: $XDG_RUNTIME_DIR/cyhorn/PID.ctl, or ~/.cyhorn/PID.ctl",
        meaning=(
            "The unix socket by which a running server is asked and told things, with cyhorn ctl. Only the"
            " master's own user and root are served, whatever the file's mode. A given path that cannot"
            " be had is an error in the log; the default one is done without. While an upgrade has two"
            " masters, the new one's socket is at the path with .2 added."
        ),
        differs="each instance has a socket of its own, where Gunicorn's share one path",
    ),
    Row(
        name="control_socket_mode",
        section=CONTROL,
        kind=v.MODE,
        flags=("--control-socket-mode",),
        metavar="MODE",
        default=0o600,
        default_text="0o600",
        meaning="The mode of the control socket's file.",
        differs="it does not let in other users than the master's own and root",
    ),
    Row(
        name="control_socket_disable",
        section=CONTROL,
        kind=v.BOOL,
        flags=("--no-control-socket",),
        action="store_true",
        default=False,
        meaning="Open no control socket.",
    ),
)
