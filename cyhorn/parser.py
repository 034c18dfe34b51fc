"""The parser, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._parser_py import ChunkedDecoder, RequestHead, RequestParser
else:
    from cyhorn._parser import ChunkedDecoder, RequestHead, RequestParser

__all__ = ["ChunkedDecoder", "RequestHead", "RequestParser"]
