"""cyhorn's own error answers (RFC 9110 15): short, and no byte of the request in them."""

from __future__ import annotations

import time
from collections.abc import Callable

from cyhorn.grammar import REASONS, imf_fixdate

_HTML = (
    "<!DOCTYPE html>\n<html><head><title>{status} {reason}</title></head>\n"
    "<body><h1>{status} {reason}</h1></body></html>\n"
)


def _html(status: int, reason: str) -> str:
    return _HTML.format(status=status, reason=reason)


def _plain(status: int, reason: str) -> str:
    return f"{status} {reason}\n"


def _json(status: int, reason: str) -> str:
    # A reason is one of ours and holds nothing that JSON would escape.
    return f'{{"status": {status}, "error": "{reason}"}}\n'


#: In order of our own preference, for equal weights.
_FORMS: dict[str, Callable[[int, str], str]] = {
    "text/html": _html,
    "text/plain": _plain,
    "application/json": _json,
}


def preferred_type(accept: str) -> str:
    """The media type of an error page for the Accept field `accept` (9110 12.5.1).

    Of types with the same weight the one that is named more exactly: ``application/json, */*``
    asks for JSON. HTML when nothing else is preferred, also when nothing acceptable is there:
    an error is better told in a form not asked for than not at all.
    """
    best, best_preference = "text/html", (0.0, -1)
    for media_type in _FORMS:
        preference = _preference(accept, media_type)
        if preference[0] > 0 and preference > best_preference:
            best, best_preference = media_type, preference
    return best


def _preference(accept: str, media_type: str) -> tuple[float, int]:
    """The weight `accept` gives `media_type`, and how exactly the range names it that fits best."""
    found, specific = 0.0, -1
    for item in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        if media_range == media_type:
            rank = 2
        elif media_range == media_type.partition("/")[0] + "/*":
            rank = 1
        elif media_range == "*/*":
            rank = 0
        else:
            continue
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        if rank > specific:
            found, specific = weight, rank
    return found, specific


def error_response(
    status: int,
    *,
    accept: str = "",
    head_only: bool = False,
    server_header: str = "cyhorn",
    now: float | None = None,
) -> bytes:
    """The complete bytes of an error answer that closes its connection.

    `accept` is the request's Accept field, `head_only` leaves the body out (HEAD),
    `now` is the time of the Date field in seconds since the epoch (None: the present).
    """
    reason = REASONS.get(status, "Error")
    media_type = preferred_type(accept) if accept else "text/html"
    body = _FORMS[media_type](status, reason).encode()
    fields = [
        f"HTTP/1.1 {status} {reason}",
        *([f"Server: {server_header}"] if server_header else []),
        f"Date: {imf_fixdate(time.time() if now is None else now)}",
        "Connection: close",
        f"Content-Type: {media_type}; charset=utf-8",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
    ]
    head = ("\r\n".join(fields) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + body
