"""The differences between the servers that are meant, and nothing else that is let through.

Each names the row of a table in docs/from-gunicorn.md that tells users of it, by the row's first cell. A
`Lines` is about the logs; `ANSWERS` are about a pair of answers to the same request. Both remember in `USED`
that they were needed: an excuse for what never occurs is not to stay in the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.compat.deployment import Answer

#: The rows that were called upon.
USED: set[str] = set()


class Lines(NamedTuple):
    """Where `pattern` is found in a line of `server`, it becomes `instead`; None leaves the line out.

    What is left to `chance`, of timing, may also not occur. `only` names a deployment.
    """

    row: str
    server: str
    pattern: str
    instead: str | None = None
    chance: bool = False
    only: str = ""


LINES = [
    Lines("`gunicorn.conf.py`", "cyhorn", r"Using \./gunicorn\.conf\.py, as there is no \./cyhorn\.conf\.py"),
    Lines("the boot log", "cyhorn", r"Running (compiled|python): "),
    Lines("`worker_tmp_dir`", "cyhorn", r"worker_tmp_dir .*: heartbeats are in shared memory"),
    Lines("HUP", "cyhorn", r"Reload done: \d+ new workers in "),
    Lines("HUP", "gunicorn", r"The orders are loaded"),
    Lines("HUP", "cyhorn", r"The orders are loaded"),  # preloaded, and so anew at each reload
    Lines("USR2", "cyhorn", r"Started a new master \(pid: "),
    Lines("the control socket", "gunicorn", r"Control socket listening at "),
    Lines("a worker that was sent KILL", "gunicorn", r" Perhaps out of memory\?", ""),
    # Asked a second time while its interpreter ends, which needs bad luck.
    Lines("TERM to a worker", "gunicorn", r"INFO\] Worker \(pid:<pid>\) was sent SIGTERM!", chance=True),
    Lines("a worker that was silent for `timeout`", "cyhorn", r"Worker \(pid:<pid>\) exited with code 1\.", only="shm_heartbeat"),
    Lines("a worker that was silent for `timeout`", "cyhorn", r"cyhorn\.errors\.Stopped", "SystemExit"),
    Lines("a worker that was silent for `timeout`", "gunicorn", r'("GET /yearly HTTP/1\.1") 500 ', r"\1 504 "),
    Lines("a worker that was silent for `timeout`", "cyhorn", r"CRITICAL\] Worker \(pid:<pid>\) is stuck in "),
    Lines("error responses", "gunicorn", r'"GET / HTTP/1\.1" 400 0 '),
    Lines("error responses", "gunicorn", r"WARNING\] (Invalid request from ip=127\.0\.0\.1): (?!\[SSL).*", r"INFO] \1"),
    Lines("error responses", "cyhorn", r"(Invalid request from ip=127\.0\.0\.1): .*", r"\1"),
    Lines("error responses", "gunicorn", r'"U": "None"(.*"s": "500")', r'"U": "/broken"\1'),
    Lines("a TLS handshake that fails", "gunicorn", r"Invalid request from ip=127\.0\.0\.1: \[SSL"),
    Lines("a response that fails midway", "cyhorn", r"(Error handling request) GET /fails-late", r"\1"),
    Lines("the body of an answer to HEAD", "gunicorn", r"WSGI app sent body bytes on a no-body response"),
    Lines("the `sync` worker", "cyhorn", r'"GET /second HTTP/1\.1" 200'),
    *(
        Lines("`worker.nr` in `pre_request`", server, rf"(HOOK\] pre_request .* nr=){count}", r"\1-")
        for server, count in (("gunicorn", "0"), ("gunicorn", "1"), ("cyhorn", "1"), ("cyhorn", "2"))
    ),
    Lines("`CONTENT_LENGTH`", "gunicorn", r'("POST /chunks HTTP/1\.1" 200) \d+', r"\1"),
    Lines("`CONTENT_LENGTH`", "cyhorn", r'("POST /chunks HTTP/1\.1" 200) \d+', r"\1"),
]

#: What faulthandler writes about a process, from its first line to its last.
DUMP = (re.compile(r"Fatal Python error: "), re.compile(r"Extension modules: "))
DUMP_ROW = "a worker that was silent for `timeout`"


def lines(name: str, server: str, told: list[str]) -> list[str]:
    """The lines of a log of the deployment `name` under `server` as they are to be compared, under Gunicorn's name."""
    kept = []
    dumping = False
    for line in told:
        dumping = dumping or bool(DUMP[0].search(line))
        if not dumping:
            for rule in LINES:
                if rule.server == server and rule.only in ("", name) and re.search(rule.pattern, line):
                    USED.add(rule.pattern)
                    if rule.instead is None:
                        break
                    line = re.sub(rule.pattern, rule.instead, line)
            else:
                kept.append(re.sub(r"\bcyhorn\b", "gunicorn", line))
        dumping = dumping and not DUMP[1].search(line)
    return kept


Pair = tuple[Answer, Answer]


def error_page(gunicorns: Answer, ours: Answer) -> Pair:
    """The server's own page says the status, in words of its own."""
    if "<h1><p>" in gunicorns.body and "<h1>" in ours.body:
        return gunicorns._replace(fields=[], body=""), ours._replace(fields=[], body="")
    return gunicorns, ours


def stuck(gunicorns: Answer, ours: Answer) -> Pair:
    """A request that outlasts `timeout` is no error of the application's."""
    if ours.status.startswith("HTTP/1.1 504 ") and gunicorns.status.startswith("HTTP/1.1 500 "):
        return gunicorns._replace(status=ours.status), ours
    return gunicorns, ours


def version(gunicorns: Answer, ours: Answer) -> Pair:
    """An answer has the server's version, not that of the request (9110 2.5)."""
    if gunicorns.status.startswith("HTTP/1.0 "):
        ours = ours._replace(status=ours.status.replace("HTTP/1.1 ", "HTTP/1.0 ", 1))
    return gunicorns, ours


def persistence(gunicorns: Answer, ours: Answer) -> Pair:
    """Gunicorn's worker closes after each answer."""
    if not any(field.startswith("Connection:") for field in ours.fields):
        return gunicorns._replace(fields=[f for f in gunicorns.fields if f != "Connection: close"]), ours
    return gunicorns, ours


def framing(gunicorns: Answer, ours: Answer) -> Pair:
    """A body that is there as a whole has a length."""
    length = f"Content-Length: {len(ours.body)}"
    if length in ours.fields and "Transfer-Encoding: chunked" in gunicorns.fields:
        fields = [field for field in gunicorns.fields if field != "Transfer-Encoding: chunked"]
        return gunicorns._replace(fields=sorted([*fields, length], key=_name)), ours
    return gunicorns, ours


def content_length(gunicorns: Answer, ours: Answer) -> Pair:
    """A chunked body is complete when the application is called, so its length is known."""
    if '"HTTP_TRANSFER_ENCODING": "chunked"' in gunicorns.body:
        return gunicorns, ours._replace(body=ours.body.replace('"CONTENT_LENGTH": "10", ', ""))
    return gunicorns, ours


ANSWERS: dict[Callable[[Answer, Answer], Pair], str] = {
    error_page: "error responses",
    stuck: "a worker that was silent for `timeout`",
    version: "an HTTP/1.0 request",
    persistence: "the `sync` worker",
    framing: "a body in a list",
    content_length: "`CONTENT_LENGTH`",
}


def answers(gunicorns: Answer, ours: Answer) -> Pair:
    """Two answers as they are to be compared. The order of fields of different names means nothing (9110 5.3)."""
    gunicorns, ours = _without_server(gunicorns), _without_server(ours)
    for rule in ANSWERS:
        changed = rule(gunicorns, ours)
        if changed != (gunicorns, ours):
            USED.add(rule.__name__)
            gunicorns, ours = changed
    return gunicorns, ours


def _without_server(answer: Answer) -> Answer:
    fields = [field for field in answer.fields if not field.startswith("Server: ")]
    return answer._replace(fields=sorted(fields, key=_name))


def _name(field: str) -> str:
    return field.partition(":")[0].lower()


#: Answers that only one of the servers gives: the row, the server, the request and the status.
ALONE = [
    ("`Expect: 100-continue`", "gunicorn", "PUT /expects", "HTTP/1.1 100 Continue"),
    ("the `sync` worker", "cyhorn", "GET /kept", "HTTP/1.1 200 OK"),
]


def steps(server: str, account: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The steps of an account without what only this server answers."""
    kept: list[tuple[str, Any]] = []
    for what, value in account:
        alone = (server, what, value.status if isinstance(value, Answer) else None)
        again = bool(kept) and kept[-1][0] == what
        if alone in [rule[1:] for rule in ALONE] and (again or server == "gunicorn"):
            USED.add(what)
            continue
        kept.append((what, value))
    return kept


def rows() -> set[str]:
    """Every row that is called upon by a rule."""
    return {rule.row for rule in LINES} | set(ANSWERS.values()) | {rule[0] for rule in ALONE} | {DUMP_ROW}


def in_vain() -> set[str]:
    """The rules that had no occasion."""
    wanted = {rule.pattern for rule in LINES if not rule.chance}
    wanted |= {rule.__name__ for rule in ANSWERS} | {rule[2] for rule in ALONE}
    return wanted - USED
