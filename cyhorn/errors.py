"""Every exception of cyhorn, and the one table of HTTP error codes.

Both twins of a byte-level module produce a `Code`; `http_error` alone turns a
code into an exception. "More bytes are needed" is a return value, never an
exception.
"""

from __future__ import annotations

from enum import IntEnum

# Exit statuses of the master and of workers, as Gunicorn's users know them.
EXIT_OK = 0
EXIT_CONFIG = 1
EXIT_USAGE = 2
EXIT_BOOT = 3
EXIT_APP_LOAD = 4


class CyhornError(Exception):
    """The base of all that cyhorn raises on purpose."""


class ConfigError(CyhornError):
    """A setting, file or flag of the operator is wrong; the text is one clear line."""

    exit_status = EXIT_CONFIG


class AppImportError(CyhornError):
    """The application named by "module:app" is missing or is not callable."""

    exit_status = EXIT_APP_LOAD


class ListenError(CyhornError):
    """A listening socket cannot be made: address, permission or descriptor."""

    exit_status = EXIT_CONFIG


class ApplicationError(CyhornError):
    """The application broke PEP 3333."""


class ClientDisconnected(CyhornError):
    """The peer went away; worth a debug line, never a traceback."""


class ResponseCut(ClientDisconnected):
    """A response cannot be brought to its end, by no fault of the peer: the operator is told."""


class TakenOver(BaseException):
    """Another thread or greenlet leads the loop by now: the one in which this is raised must not touch it.

    Never seen outside the loop and the worker that runs it.
    """


class Stopped(SystemExit):
    """A signal asked this process to end: what it was doing is unwound and given up."""


class HaltServer(BaseException):
    """Leave the arbiter's loop and end the process with `exit_status`."""

    def __init__(self, reason: str, exit_status: int = EXIT_CONFIG) -> None:
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


class Code(IntEnum):
    """What is wrong with a message. Zero is never a code."""

    BARE_LF = 1
    BARE_CR = 2
    EMPTY_LINES = 3
    REQUEST_LINE = 4
    METHOD = 5
    TARGET = 6
    CONNECT = 7
    VERSION_SYNTAX = 8
    VERSION = 9
    REQUEST_LINE_LENGTH = 10
    FIELD_NAME = 11
    FIELD_VALUE = 12
    FIELD_FOLDED = 13
    FIELD_COUNT = 14
    FIELD_LENGTH = 15
    HEAD_LENGTH = 16
    FIELD_REPEATED = 17
    FIELD_UNDERSCORE = 18
    HOST_MISSING = 19
    HOST = 20
    CONTENT_LENGTH = 21
    TRANSFER_ENCODING = 22
    TRANSFER_CODING = 23
    LENGTH_CONFLICT = 24
    TRACE_BODY = 25
    CHUNK_SIZE = 26
    CHUNK_EXTENSION = 27
    CHUNK_DATA = 28
    TRAILER = 29
    TRAILER_NAME = 30
    BODY_LENGTH = 31
    EXPECT = 32
    SCHEME_CONFLICT = 33
    PROXY_SYNTAX = 34
    PROXY_PEER = 35
    SCRIPT_NAME = 36
    TIMEOUT = 37
    INTERNAL = 38
    SPOOL_FULL = 39
    PLAIN_HTTP = 40
    SCRIPT_NAME_REPEATED = 41


#: code → (status of the answer, what is wrong, in words for the log).
HTTP_ERRORS: dict[Code, tuple[int, str]] = {
    Code.BARE_LF: (400, "a line of the head ends in a bare LF"),
    Code.BARE_CR: (400, "a CR in the head is not followed by LF"),
    Code.EMPTY_LINES: (400, "more than one empty line before the request line"),
    Code.REQUEST_LINE: (400, "the request line is not method, target and version"),
    Code.METHOD: (400, "the method is not one that is taken"),
    Code.TARGET: (400, "the request target is malformed"),
    Code.CONNECT: (501, "CONNECT is not served"),
    Code.VERSION_SYNTAX: (400, "the HTTP version is malformed"),
    Code.VERSION: (505, "the HTTP version is not served"),
    Code.REQUEST_LINE_LENGTH: (414, "the request line is longer than limit_request_line"),
    Code.FIELD_NAME: (400, "a field name is malformed"),
    Code.FIELD_VALUE: (400, "a field value holds a forbidden character"),
    Code.FIELD_FOLDED: (400, "a field is folded over several lines"),
    Code.FIELD_COUNT: (431, "there are more fields than limit_request_fields"),
    Code.FIELD_LENGTH: (431, "a field is longer than limit_request_field_size"),
    Code.HEAD_LENGTH: (431, "the head is longer than its total limit"),
    Code.FIELD_REPEATED: (400, "a field that must be single is repeated"),
    Code.FIELD_UNDERSCORE: (400, "a field name has an underscore (header_map=refuse)"),
    Code.HOST_MISSING: (400, "an HTTP/1.1 request has no Host"),
    Code.HOST: (400, "Host is malformed"),
    Code.CONTENT_LENGTH: (400, "Content-Length is malformed"),
    Code.TRANSFER_ENCODING: (400, "Transfer-Encoding is malformed"),
    Code.TRANSFER_CODING: (501, "a transfer coding is not served"),
    Code.LENGTH_CONFLICT: (400, "Transfer-Encoding and Content-Length contradict"),
    Code.TRACE_BODY: (400, "TRACE has a body"),
    Code.CHUNK_SIZE: (400, "a chunk size is malformed"),
    Code.CHUNK_EXTENSION: (400, "chunk extensions are malformed or too long"),
    Code.CHUNK_DATA: (400, "chunk data is not followed by CRLF"),
    Code.TRAILER: (400, "a trailer field is malformed"),
    Code.TRAILER_NAME: (400, "a trailer field may not be one"),
    Code.BODY_LENGTH: (413, "the body is longer than limit_request_body"),
    Code.EXPECT: (417, "the expectation cannot be met"),
    Code.SCHEME_CONFLICT: (400, "the forwarded scheme fields contradict"),
    Code.PROXY_SYNTAX: (400, "the PROXY protocol header is malformed"),
    Code.PROXY_PEER: (403, "the peer may not send a PROXY protocol header"),
    Code.SCRIPT_NAME: (500, "SCRIPT_NAME does not prefix the path"),
    Code.SCRIPT_NAME_REPEATED: (400, "SCRIPT_NAME is forwarded more than once"),
    Code.TIMEOUT: (408, "the request did not arrive in time"),
    Code.INTERNAL: (500, "the request failed"),
    Code.SPOOL_FULL: (507, "the body cannot be spooled"),
    Code.PLAIN_HTTP: (400, "plain HTTP was sent to a TLS port"),
}


#: What is for the operator, not the client's mistake: it is logged as an error.
OUR_ERRORS = frozenset((Code.SCRIPT_NAME, Code.INTERNAL, Code.SPOOL_FULL))


class HttpError(CyhornError):
    """The peer broke HTTP, or asked for what is not served.

    `code` says what was wrong, `status` is the answer's status code and
    `detail` the words for the log. None of them holds a byte of the request.
    `accept` is what a head that is refused says in Accept, as far as it was read: it
    chooses the form of the answer and is not part of it.
    """

    def __init__(self, code: Code, status: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.accept = ""


def http_error(code: int) -> HttpError:
    """The exception for `code`, a member or value of `Code`."""
    member = Code(code)
    status, detail = HTTP_ERRORS[member]
    return HttpError(member, status, detail)
