"""The access-log format, compiled once into a function.

A format is %-style text over atoms: ``%(h)s``, ``%({Referer}i)s``. `compile_format` turns it
into one function that touches only the atoms it names; `SafeAtoms` gives the same text for
all atoms at once, as logger classes of others expect them.

Atoms (GUNICORN.md 3.9)
    h peer, l "-", u user of Basic credentials, t time, r request line, m method, U path,
    q query, H protocol, s status code, B and b payload bytes, f Referer, a User-Agent,
    T L M D duration in s, decimal s, ms, µs, p process id,
    {name}i request field, {name}o response field, {name}e environ variable; else "-".

Escaping
    A double quote becomes \\", and a control character \\xNN: PATH_INFO is percent-decoded,
    so that a client could otherwise write log lines of its own.

Formatting never raises, whatever the application did to its environ.
"""

from __future__ import annotations

import os
import re
import time
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

#: (response, environ, seconds, clock) → line without its end. `clock` gives the CLF time.
Line = Callable[[Any, Mapping[str, Any], float, Callable[[], str]], str]

#: What a value that is missing or cannot be shown looks like.
MISSING = "-"

# --- escaping --------------------------------------------------------------

#: C0 and C1 controls and DEL. C1 too: a terminal may obey U+009B as it obeys ESC [.
CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
ESCAPES = {ord('"'): '\\"', **{c: f"\\x{c:02x}" for c in CONTROLS}}
#: What is escaped within ASCII, for one bytes.translate over a whole line.
SPECIAL_BYTES = b'"\x7f' + bytes(range(0x20))


def escape(text: str) -> str:
    """`text` with double quotes and control characters escaped."""
    return text if '"' not in text and text.isprintable() else text.translate(ESCAPES)


def safe_value(value: object) -> object:
    """`value` as it may stand in a line: a number as it is, all else as escaped text."""
    kind = type(value)
    if kind is int or kind is float:
        return value
    try:
        return escape(str(value))
    except Exception:  # an object of the application that cannot be shown
        return MISSING


class SafeAtoms(dict[str, Any]):
    """Atoms by name for a %-style format: names in braces in any case, unknown ones "-", values escaped."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__(atoms)
        for key, value in atoms.items():
            if isinstance(value, str) and ('"' in value or not value.isprintable()):
                self[key] = safe_value(value)

    def __getitem__(self, key: str) -> Any:
        if key.startswith("{"):
            key = key.lower()
        value = self.get(key, MISSING)
        return value if isinstance(value, str) else safe_value(value)


# --- time ------------------------------------------------------------------

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def clf_time(seconds: float) -> str:
    """The Common Log Format time of `seconds` since the epoch, local, English in every locale."""
    t = time.localtime(seconds)
    sign, offset = ("-", -t.tm_gmtoff) if t.tm_gmtoff < 0 else ("+", t.tm_gmtoff)
    return (
        f"[{t.tm_mday:02}/{MONTHS[t.tm_mon - 1]}/{t.tm_year:04}:{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
        f" {sign}{offset // 3600:02}{offset // 60 % 60:02}]"
    )


def clf_clock() -> Callable[[], str]:
    """A function that gives the present time in Common Log Format, made anew once a second."""
    read = time.time
    start = end = 0.0
    text = ""

    def clock() -> str:
        nonlocal start, end, text
        now = read()
        if not start <= now < end:  # also when the clock was set back
            second = float(int(now))
            text = clf_time(second)
            start, end = second, second + 1.0
        return text

    return clock


#: The clock of this process.
clf_now = clf_clock()


# --- atoms -----------------------------------------------------------------

_pid = f"<{os.getpid()}>"


def _forked() -> None:
    global _pid
    _pid = f"<{os.getpid()}>"


os.register_at_fork(after_in_child=_forked)


def process_id() -> str:
    """The atom p. No system call: the process id changes at a fork only."""
    return _pid


def basic_user(credentials: object) -> str:
    """The user in the Authorization field `credentials` (RFC 7617); "-" where there is none to be had."""
    if not isinstance(credentials, str) or credentials[:5].lower() != "basic":
        return MISSING
    _, _, token = credentials.partition(" ")
    try:
        return a2b_base64(token.strip().encode()).partition(b":")[0].decode() or MISSING
    except ValueError:  # bad padding, not UTF-8
        return MISSING


def microseconds(seconds: float) -> int:
    """`seconds` in whole microseconds, rounded as timedelta rounds."""
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1e6)


def decimal_seconds(seconds: float) -> str:
    """The atom L."""
    whole, rest = divmod(microseconds(seconds), 1_000_000)
    return f"{whole}.{rest:06}"


def field_key(name: str) -> str:
    """The environ key of the request field `name`."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def response_field(headers: Any, name: str) -> object:
    """The last response field called `name` (lower case) in `headers`."""
    for field, value in reversed(headers):
        if field.lower() == name:
            return value
    return MISSING


def environ_variable(environ: Mapping[str, Any], name: str) -> object:
    """The environ variable called `name` (lower case), which the format may write in any case."""
    found: object = MISSING
    for key, value in environ.items():
        if isinstance(key, str) and key.lower() == name:
            found = value
    return found


#: Atoms that are environ variables. Those of the first table are there in every request.
ALWAYS = {
    "h": "REMOTE_ADDR", "m": "REQUEST_METHOD", "U": "PATH_INFO", "q": "QUERY_STRING", "H": "SERVER_PROTOCOL",
}  # fmt: skip
MAYBE = {"f": "HTTP_REFERER", "a": "HTTP_USER_AGENT"}
REQUEST_LINE = ("REQUEST_METHOD", "RAW_URI", "SERVER_PROTOCOL")

#: The other atoms as expressions over the parameters of `Line` and `NAMESPACE`.
EXPRESSIONS = {
    "l": "'-'",
    "u": "basic_user(environ['HTTP_AUTHORIZATION']) if 'HTTP_AUTHORIZATION' in environ else '-'",
    "t": "clock()",
    "s": "response.status_code",
    "B": "response.sent",
    "b": "response.sent",
    "T": "microseconds(seconds) // 1000000",
    "M": "microseconds(seconds) // 1000",
    "D": "microseconds(seconds)",
    "L": "decimal_seconds(seconds)",
    "p": "process_id()",
}
NUMBERS = frozenset("BTMD")
NAMESPACE: dict[str, Any] = {
    function.__name__: function
    for function in (
        basic_user,
        microseconds,
        decimal_seconds,
        process_id,
        response_field,
        environ_variable,
        safe_value,
    )
}


def expression(atom: str) -> str:
    """The value of `atom` as an expression that may fail, or give "-", when it is missing."""
    if atom in ALWAYS:
        return f"environ[{ALWAYS[atom]!r}]"
    if atom in MAYBE:
        return f"environ.get({MAYBE[atom]!r}, '-')"
    if atom in EXPRESSIONS:
        return EXPRESSIONS[atom]
    if atom[:1] == "{":
        name, kind = atom[1:-2].lower(), atom[-2:].lower()
        if kind == "}i":
            return f"environ.get({field_key(name)!r}, '-')"
        if kind == "}o":
            return f"response_field(response.headers, {name!r})"
        if kind == "}e":
            # The usual spelling is found at once; the others cost a walk.
            key = name.upper()
            return f"environ[{key!r}] if {key!r} in environ else environ_variable(environ, {name!r})"
    return "'-'"


# --- the format ------------------------------------------------------------

#: After the name: flags, width, precision, an ignored length modifier, and the conversion.
CONVERSION = re.compile(r"([#0\- +]*\d*(?:\.\d*)?)[hlL]?([a-zA-Z])")
TEXT_CONVERSIONS = frozenset("sra")
NUMBER_CONVERSIONS = frozenset("diouxXeEfFgG")


class Atom(NamedTuple):
    """One atom of a format as it is written there."""

    name: str
    flags: str  # with width and precision
    conversion: str

    @property
    def is_plain(self) -> bool:
        """Whether it is shown as it is: %(name)s."""
        return not self.flags and self.conversion == "s"


def split_format(text: str) -> list[str | Atom]:
    """Split an access-log format into literal text and atoms.

    Raises ValueError, naming the place, for what %-formatting by name cannot print.
    """
    pieces: list[str | Atom] = []
    at = 0
    while True:
        percent = text.find("%", at)
        if percent < 0:
            pieces.append(text[at:])
            return pieces
        pieces.append(text[at:percent])
        if text.startswith("%%", percent):
            pieces.append("%")
            at = percent + 2
            continue
        if not text.startswith("%(", percent):
            raise ValueError(f"{text[percent : percent + 2]!r} at {percent} is not an atom, such as %(h)s")
        depth, close = 1, percent + 2
        while depth and close < len(text):
            depth += {"(": 1, ")": -1}.get(text[close], 0)
            close += 1
        match = CONVERSION.match(text, close)
        if depth or match is None:
            raise ValueError(f"{text[percent:close]!r} at {percent} has no end, such as %(h)s")
        atom = text[percent + 2 : close - 1]
        flags, conversion = match.groups()
        if conversion not in TEXT_CONVERSIONS and not (conversion in NUMBER_CONVERSIONS and atom in NUMBERS):
            raise ValueError(f"{text[percent : match.end()]!r} at {percent}: use %({atom}){flags}s")
        at = match.end()
        pieces.append(Atom(atom, flags, conversion))


#: Literal text, or (expression, conversion such as "%s" or "%-6d").
Piece = str | tuple[str, str]


def parse_format(text: str) -> list[Piece]:
    """The access-log format `text` as literal text and expressions. Raises ValueError as `split_format`."""
    pieces: list[Piece] = []
    for piece in split_format(text):
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        atom, flags, conversion = piece
        if atom == "r" and piece.is_plain:
            for key in REQUEST_LINE:
                pieces += [(f"environ[{key!r}]", "%s"), " "]
            pieces.pop()
        elif atom == "r":
            keys = ", ".join(f"safe_value(environ.get({key!r}, '-'))" for key in REQUEST_LINE)
            pieces.append((f"'%s %s %s' % ({keys})", f"%{flags}{conversion}"))
        else:
            source = expression(atom)
            if atom in ("s", "b") and conversion != "s":
                source = f"str({source})"  # text, which only a representation tells from a number
            pieces.append((source, f"%{flags}{conversion}"))
    return pieces


PARAMETERS = "response, environ, seconds, clock"

#: The whole line at once, then one look at it. The count of quotes and controls is that of the
#: format's own text exactly when no value holds one; a value that is not ASCII or not there fails.
QUICK = f"""
def quick({PARAMETERS}):
    try:
        line = LINE
        if len(line.encode("ascii").translate(None, special)) + expected == len(line):
            return line
    except Exception:
        pass
    return careful({PARAMETERS})
"""


def compile_format(text: str) -> Line:
    """Compile the access-log format `text` into a function that makes one line.

    The function takes the response (`status_code`, `headers`, `sent`), the environ, the duration in
    seconds and a function giving the CLF time; it returns the line without its end and never raises.
    Raises ValueError when `text` is not a format.
    """
    import ast  # for workers that write an access log of this kind

    pieces = parse_format(text)
    literals = "".join(piece for piece in pieces if isinstance(piece, str))
    values: list[ast.expr] = []
    for piece in pieces:
        if isinstance(piece, str):
            values.append(ast.Constant(piece))
            continue
        source, conversion = piece
        if conversion[-1] in "ra":  # a representation hides what would have to be escaped before
            source = f"safe_value({source})"
        if conversion != "%s":
            source = f"{conversion!r} % ({source},)"
        values.append(ast.FormattedValue(ast.parse(source, mode="eval").body, conversion=ord("s")))
    module = ast.parse(QUICK)
    for node in ast.walk(module):
        if isinstance(node, ast.Assign):
            node.value = ast.JoinedStr(values)
    namespace: dict[str, Any] = {
        **NAMESPACE,
        "careful": careful_format(pieces),
        "special": SPECIAL_BYTES,
        "expected": sum(map(literals.count, map(chr, SPECIAL_BYTES))),
    }
    exec(compile(ast.fix_missing_locations(module), "<access_log_format>", "exec"), namespace)
    line: Line = namespace["quick"]
    return line


def careful_format(pieces: list[Piece]) -> Line:
    """The same line made value by value: each escaped, and "-" where there is none."""
    steps: list[str | tuple[Line, str]] = []
    for piece in pieces:
        if isinstance(piece, str):
            steps.append(piece)
        else:
            steps.append((eval(f"lambda {PARAMETERS}: {piece[0]}", dict(NAMESPACE)), piece[1]))

    def careful(response: Any, environ: Mapping[str, Any], seconds: float, clock: Callable[[], str]) -> str:
        line = []
        for step in steps:
            if isinstance(step, str):
                line.append(step)
                continue
            atom, conversion = step
            try:
                value = safe_value(atom(response, environ, seconds, clock))
            except Exception:
                value = MISSING
            try:
                line.append(conversion % (value,))
            except Exception:
                line.append(MISSING)
        return "".join(line)

    return careful
