"""The corpus's format: one case a file, read into a `Case`.

A file is read line by line; tests/data/wire/README.md shows one. What a line is, its beginning says::

    # [9112 2.2] words              why, with the section; the first lines of every file
    set limit_request_line = 64     a setting, as in a configuration file
    environ SCRIPT_NAME = /app      a variable of the server's process environment
    over tcp                        only over this transport (tcp, unix)
    first                           only as the first thing on a connection
    > GET / HTTP/1.1\\r\\n            bytes that the client sends; the line's own end is none of them
    fin                             the client ends its side of the connection
    silent                          the client sends no more, and waits
    < 200                           an answer that the server gives
    keep                            how it ends; the last line

A client that has answers between its lines waits for them before it goes on.

In bytes and values a backslash escapes: \\r \\n \\t \\0 \\\\ \\xHH, and \\{TEXT*N} is TEXT N times.

After ``< STATUS`` may stand a `Code` of cyhorn.errors, and ``to HEAD`` when HEAD was asked;
``<? 100`` may come or not. Lines behind it with two spaces are facts about that answer::

      NAME = value        an entry of the environ, as the application `facts` saw it
      NAME absent
      input = bytes       the request's body, as the application `facts` read it
      body = bytes        the answer's content
      framing = length    how the content ends: length, chunked, close or none
      Name: value         a field of the answer; each of several with the same name has a line
      no Name             a field that the answer does not have
      logs words          a line of the log, in the loop's own thread

Endings::

    keep    the connection persists: the next request is read from its first byte, and answered
    close   the last answer says so, and nothing after this case is read as a request
    cut     the last answer is incomplete, and the connection is closed
    gone    the connection is closed without another answer
    wait    the server waits for more
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cyhorn.errors import Code

CORPUS = Path(__file__).resolve().parents[1] / "data" / "wire"
SUFFIX = ".case"
ENDINGS = ("keep", "close", "cut", "gone", "wait")
FRAMINGS = ("length", "chunked", "close", "none")

_ESCAPE = re.compile(r"\\(?:([rnt0\\])|x([0-9a-fA-F]{2})|\{(.*?)\*([0-9]+)\})|\\")
_LETTERS = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_ANSWER = re.compile(r"<(\??) ([1-5][0-9]{2})(?: ([A-Z_]+))?(?: to ([A-Z]+))?")
_ENVIRON_FACT = re.compile(r"([^ :]+) =(?: (.*))?")
_FIELD_FACT = re.compile(r"([\w-]+):(?: (.*))?")
_SETTING = re.compile(r"([a-z_]+) = (.+)")
_VARIABLE = re.compile(r"([A-Z_]+) = (.*)")


class CaseError(Exception):
    """A file of the corpus is not one."""


def unescape(text: str) -> bytes:
    """The bytes that `text` stands for."""

    def byte(match: re.Match[str]) -> str:
        letter, digits, repeated, times = match.groups()
        if letter:
            return _LETTERS[letter]
        if digits:
            return chr(int(digits, 16))
        if times:
            return unescape(repeated).decode("latin-1") * int(times)
        raise CaseError(f"a backslash that escapes nothing: {text!r}")

    try:
        return _ESCAPE.sub(byte, text).encode("latin-1")
    except UnicodeEncodeError:
        raise CaseError(f"not bytes: {text!r}") from None


@dataclass
class Expected:
    """One answer, and what is known of it. `code` is of a refusal, `optional` of ``<?``."""

    status: int
    code: Code | None = None
    method: str = "GET"
    optional: bool = False
    environ: dict[str, str | None] = field(default_factory=dict)
    input: bytes | None = None
    body: bytes | None = None
    framing: str | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)


@dataclass
class Turn:
    """What the client sends at once, and what the server answers to it."""

    data: bytes
    answers: list[Expected] = field(default_factory=list)


@dataclass
class Case:
    """One case. `quiet` is "fin" or "silent" where the client says nothing after it."""

    path: Path
    why: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    over: str | None = None
    first: bool = False
    turns: list[Turn] = field(default_factory=list)
    quiet: str | None = None
    ending: str = ""

    @property
    def name(self) -> str:
        """Folder and file name, as tests are called."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def rule(self) -> int:
        """The rule of HTTP on the wire that the case shows; its folder's number."""
        return int(self.path.parent.name[:2])

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """Settings and variables; cases of one group share a server."""
        return tuple(sorted((name, repr(value)) for name, value in (self.settings | self.variables).items()))

    @property
    def data(self) -> bytes:
        """All that the client sends."""
        return b"".join(turn.data for turn in self.turns)

    @property
    def answers(self) -> list[Expected]:
        """All that the server answers."""
        return [answer for turn in self.turns for answer in turn.answers]

    @property
    def answers_last(self) -> Expected | None:
        """The answer that ends the case, if there is one."""
        return self.answers[-1] if self.answers else None

    @property
    def mount(self) -> str:
        """SCRIPT_NAME of the process environment."""
        return self.variables.get("SCRIPT_NAME", "").rstrip("/")


def read_case(path: Path) -> Case:
    """Read one file. Raises CaseError, with the line."""
    case = Case(path)
    for number, line in enumerate(path.read_text("ascii").splitlines(), 1):
        try:
            if case.ending:
                raise CaseError("a line after the ending")
            _read_line(case, line)
        except (CaseError, ValueError, KeyError, SyntaxError) as error:
            raise CaseError(f"{path}:{number}: {error!r}") from error
    if not case.ending or not case.why or not case.turns:
        raise CaseError(f"{path}: has no {'ending' if not case.ending else 'reason or bytes'}")
    return case


def _read_line(case: Case, line: str) -> None:
    if not line.strip():
        return
    if line.startswith("#"):
        case.why.append(line[1:].strip())
    elif line.startswith("> "):
        if not case.turns or case.turns[-1].answers:
            case.turns.append(Turn(b""))
        case.turns[-1].data += unescape(line[2:])
    elif line.startswith("<"):
        case.turns[-1].answers.append(_read_answer(line))
    elif line.startswith("  "):
        _read_fact(case.turns[-1].answers[-1], line[2:])
    elif line in ENDINGS:
        case.ending = line
    elif line in ("fin", "silent"):
        case.quiet = line
    elif line == "first":
        case.first = True
    elif line in ("over tcp", "over unix"):
        case.over = line[5:]
    elif line.startswith("set ") and (setting := _SETTING.fullmatch(line[4:])):
        case.settings[setting[1]] = ast.literal_eval(setting[2])
    elif line.startswith("environ ") and (variable := _VARIABLE.fullmatch(line[8:])):
        case.variables[variable[1]] = variable[2]
    else:
        raise CaseError(f"what is {line!r}?")


def _read_answer(line: str) -> Expected:
    match = _ANSWER.fullmatch(line)
    if match is None:
        raise CaseError(f"no answer: {line!r}")
    optional, status, code, method = match.groups()
    return Expected(int(status), Code[code] if code else None, method or "GET", bool(optional))


def _read_fact(answer: Expected, text: str) -> None:
    if text.startswith("logs "):
        answer.logged.append(text[5:])
    elif text.startswith("no "):
        answer.fields[text[3:]] = []
    elif text.endswith(" absent"):
        answer.environ[text[:-7]] = None
    elif fact := _ENVIRON_FACT.fullmatch(text):
        name, value = fact[1], unescape(fact[2] or "")
        if name == "input":
            answer.input = value
        elif name == "body":
            answer.body = value
        elif name == "framing":
            if fact[2] not in FRAMINGS:
                raise CaseError(f"no framing: {text!r}")
            answer.framing = fact[2]
        else:
            answer.environ[name] = value.decode("latin-1")
    elif fact := _FIELD_FACT.fullmatch(text):
        answer.fields.setdefault(fact[1], []).append(unescape(fact[2] or "").decode("latin-1"))
    else:
        raise CaseError(f"no fact: {text!r}")


def paths() -> Iterator[Path]:
    """The files of the corpus, in order."""
    yield from sorted(CORPUS.rglob("*" + SUFFIX))


@cache
def corpus() -> tuple[Case, ...]:
    """All cases, in order."""
    return tuple(map(read_case, paths()))
