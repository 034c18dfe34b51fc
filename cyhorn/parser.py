"""The parser and the chunked decoder, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._chunked_py import ChunkedDecoder
    from cyhorn._parser_py import RequestHead, RequestParser
else:
    from cyhorn._chunked import ChunkedDecoder
    from cyhorn._parser import RequestHead, RequestParser

__all__ = ["ChunkedDecoder", "RequestHead", "RequestParser"]
