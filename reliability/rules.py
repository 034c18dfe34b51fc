"""The promises, each with the tests that show it.

A test says which rules it shows: ``@pytest.mark.rule(12)``. `shown_by` reads the marks off the syntax
trees, so that neither a run nor an import is needed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: (title of the group, its rules).
GROUPS: tuple[tuple[str, dict[int, str]], ...] = (
    (
        "Listening and starting",
        {
            1: "Listeners are bound before the fork: with all workers killed, connections wait instead of being refused.",
            2: "The pid file is written after the bind, removed on every way out, and another's is never removed.",
            3: "A pid file that names no living process is taken over; one that does ends the start with 1 and the pid.",
            4: "A unix socket that nobody listens at is replaced, one that is in use is not.",
            5: "Tries to bind are logged with address and errno; the last one ends with 1.",
            6: "The idle orphans of a dead master let go of the address at once, and tries to bind outlast that.",
            7: "Exit statuses are a contract: 3 boot, 4 application, 1 configuration, 2 usage.",
            8: "When no worker boots the master ends, with one traceback per worker at most; later crashes back off.",
            9: "A bad setting is one line with its name and value.",
        },
    ),
    (
        "Reload",
        {
            10: "HUP with a configuration or an application that fails leaves the old workers serving, and says why.",
            11: "Old workers are told to stop only when as many new ones accept.",
            12: "Reloads under load fail no request; retries on idle connections are told apart and near none.",
            13: "The last answer says Connection: close; an idle connection ends with FIN, never with RST.",
            14: "A HUP during a reload is never lost: the newest code is served in the end.",
            15: "Old generations are bounded by graceful_timeout, and cost no descriptor.",
        },
    ),
    (
        "Upgrade",
        {
            16: "USR2 is refused while there are two masters, and works again after a rollback.",
            17: "The pid file goes to the new master when the old one ends, and stays in a rollback.",
            18: "The old master removes neither the socket nor the pid file that a successor uses.",
            19: "USR2, WINCH, HUP and TERM in nginx's order fail no request, forward or back.",
            20: "Listeners are passed once: repeated upgrades cost no descriptor.",
        },
    ),
    (
        "Death and supervision",
        {
            21: "No zombie stays, whatever the storm.",
            22: "kill -9 of a worker loses what it held and nothing else; it is replaced at once, its end explained.",
            23: "The end of the master is an event: idle workers leave at once, stuck ones within graceful_timeout.",
            24: "A worker looks whether its parent changed, not whether it is 1: subreapers make no difference.",
            25: "No signal is lost because a queue is full; stray ones harm nobody.",
            26: "TTIN and TTOU are counted exactly, and never go under one worker.",
            27: "A worker that hangs is killed even when it cannot handle SIGABRT, soon after timeout.",
            28: "Streams, uploads and slow clients do not starve the heartbeat.",
            29: "Idle workers do not time out, also with silent connections.",
        },
    ),
    (
        "Stopping",
        {
            30: "At TERM whoever connects is answered or refused, never reset.",
            31: "What the kernel has queued at TERM is accepted and answered.",
            32: "Answers, streams, uploads and slow readers under way end whole within graceful_timeout; exit 0.",
            33: "QUIT and INT end within 3 s, also with threads that do not.",
            34: "After graceful_timeout comes SIGKILL: no orphan, no pid file, no socket stays, exit 0.",
            35: "TERM during the boot is obeyed.",
        },
    ),
    (
        "Hostile clients and scarcity",
        {
            36: "A connection costs no thread, and 800 slow ones do not slow others down.",
            37: "Without descriptors accepting pauses: little CPU, a line or two in the log, full recovery.",
            38: "Clients that leave are no errors: no traceback, no descriptor, no worker lost.",
            39: "Bodies and responses stream with back-pressure: 200 MB either way cost less than 24 MB of memory.",
        },
    ),
    (
        "Logs, hooks, privileges",
        {
            40: "A log that cannot be written or opened again stops nobody, and is said once.",
            41: "USR1 loses, doubles and tears no line; a hook that raises does not end the master.",
            42: "Privileges are dropped whole, and logs can be opened again afterwards.",
        },
    ),
    (
        "Time and clients",
        {
            43: "Timers use the monotonic clock: a step of the wall clock changes nothing.",
            44: "A client that is too slow is closed (408 where a request had begun); one that moves is served.",
            45: "A worker stuck in the application is aborted, with its requests and the stacks of all threads in the log, and replaced.",
            46: "Without disk or descriptors for a spool that one request is answered 507 or 500; nothing else suffers.",
            47: "max_requests, reload and TTOU never cost a keep-alive client an answer.",
        },
    ),
)

RULES: dict[int, str] = {number: text for _, rules in GROUPS for number, text in rules.items()}


def _marks(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name of a test, a rule it is marked with)."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rule":
                for argument in decorator.args:
                    yield node.name, ast.literal_eval(argument)


def shown_by(root: Path = ROOT) -> dict[int, list[tuple[str, str]]]:
    """Rule → (file, name) of each test that shows it."""
    found: dict[int, list[tuple[str, str]]] = {}
    for file in sorted((root / "tests").rglob("test_*.py")):
        for name, number in _marks(ast.parse(file.read_text())):
            found.setdefault(number, []).append((str(file.relative_to(root)), name))
    return found
