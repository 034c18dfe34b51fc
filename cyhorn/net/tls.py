"""TLS: the context from the settings, and a channel that does no input or output itself.

`make_ssl_context` is called once per worker. `TLSChannel` stands between a connection's
socket and its HTTP bytes: the loop feeds it what it received and sends what it has pending,
so that a TLS connection waits in the same loop as any other.

States of a channel: handshake → open → ended (the peer's close_notify, or its end of
stream, was read: `eof`) or failed (`TLSError` was raised, and every later read or write
raises it again). The handshake needs no call of its own: `read` drives it. Output may be
pending after any call, also after one that raised: it then holds the alert that tells the
peer why.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from typing import Any, Final

from cyhorn.errors import ClientDisconnected, ConfigError

ALPN: Final = ("http/1.1",)

#: The most plaintext one `TLSChannel.read` returns unless told otherwise: four records.
READ_SIZE: Final = 65536


# --- the context -------------------------------------------------------------------------


def make_ssl_context(cfg: Any) -> ssl.SSLContext:
    """The server's context from `certfile`, `keyfile`, `ca_certs`, `cert_reqs` and `ciphers`.

    The hook `cfg.ssl_context(config, default_ssl_context_factory)`, when set, has the last word.
    Raises ConfigError, one line that names the setting.
    """

    def default_ssl_context_factory() -> ssl.SSLContext:
        return _default_context(cfg)

    hook = getattr(cfg, "ssl_context", None)
    if hook is None:
        return default_ssl_context_factory()
    context = hook(cfg, default_ssl_context_factory)
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(
            f"ssl_context: the hook must return an ssl.SSLContext, not {type(context).__name__}"
        )
    return context


def _default_context(cfg: Any) -> ssl.SSLContext:
    if not cfg.certfile:
        raise ConfigError("certfile: TLS needs a certificate, and none is set")
    try:
        verify_mode = ssl.VerifyMode(int(cfg.cert_reqs))
    except ValueError:
        raise ConfigError(
            f"cert_reqs: {cfg.cert_reqs!r} is not 0 (none), 1 (optional) or 2 (required)"
        ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client that renegotiates makes the server do all the work again and again.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(ALPN))
    _load_certificate(context, cfg.certfile, cfg.keyfile)
    if cfg.ca_certs:
        _check_readable("ca_certs", cfg.ca_certs)
        try:
            context.load_verify_locations(cafile=cfg.ca_certs)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"ca_certs: {cfg.ca_certs!r} holds no PEM certificate ({_reason(error)})"
            ) from error
    context.verify_mode = verify_mode
    if cfg.ciphers:
        try:
            context.set_ciphers(cfg.ciphers)
        except ssl.SSLError as error:
            raise ConfigError(f"ciphers: {cfg.ciphers!r} names no cipher that OpenSSL knows") from error
    return context


class _PasswordWanted(Exception):
    """The private key is encrypted."""


def _no_password() -> str:
    # Without this OpenSSL asks at the terminal, and a daemon waits for ever.
    raise _PasswordWanted


def _load_certificate(context: ssl.SSLContext, certfile: str, keyfile: str | None) -> None:
    _check_readable("certfile", certfile)
    if keyfile:
        _check_readable("keyfile", keyfile)
    try:
        context.load_cert_chain(certfile, keyfile or None, password=_no_password)
        return
    except _PasswordWanted as error:
        raise ConfigError(
            f"keyfile: {keyfile or certfile!r} is encrypted: decrypt it, or load it in the ssl_context hook"
        ) from error
    except (ssl.SSLError, OSError) as error:
        failure = error
    if getattr(failure, "reason", None) == "KEY_VALUES_MISMATCH":
        raise ConfigError(
            f"keyfile: {keyfile or certfile!r} is not the key of the certificate in {certfile!r}"
        ) from failure
    # OpenSSL says "PEM lib" for either file. Which one is it?
    if not _holds_certificate(certfile):
        raise ConfigError(f"certfile: {certfile!r} holds no PEM certificate") from failure
    if keyfile:
        raise ConfigError(
            f"keyfile: {keyfile!r} holds no usable PEM private key ({_reason(failure)})"
        ) from failure
    raise ConfigError(
        f"certfile: {certfile!r} holds no usable PEM private key, and keyfile is not set ({_reason(failure)})"
    ) from failure


def _check_readable(setting: str, path: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{setting}: {path!r} is not a file")
        with open(path, "rb"):
            pass
    except FileNotFoundError as error:
        raise ConfigError(f"{setting}: {path!r} does not exist") from error
    except OSError as error:
        raise ConfigError(f"{setting}: {path!r} cannot be read ({error.strerror})") from error


def _holds_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        return False
    return True


def _reason(error: OSError) -> str:
    """OpenSSL's word for it, in small letters and without its source line."""
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).partition(" (_ssl")[0].replace("_", " ").lower()


# --- the channel -------------------------------------------------------------------------


class TLSError(ClientDisconnected):
    """The handshake or the stream failed; the connection can only be closed.

    `reason` says why, in words. `plain_http` is true when the peer spoke HTTP to
    the TLS port: it can be told so in plain text.
    """

    def __init__(self, reason: str, *, plain_http: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.plain_http = plain_http


class TLSChannel:
    """One server-side TLS connection without its socket.

    `context` is shared by all. With `suppress_ragged_eofs` an end of stream without
    close_notify is an ordinary end (HTTP says itself where a message ends);
    otherwise it is a TLSError.
    """

    __slots__ = (
        "_ended",
        "_failure",
        "_incoming",
        "_object",
        "_outgoing",
        "_ragged",
        "_started",
        "_unsent",
        "eof",
        "handshake_done",
    )

    def __init__(self, context: ssl.SSLContext, *, suppress_ragged_eofs: bool = True) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ragged = suppress_ragged_eofs
        self._started = False
        # Not told to OpenSSL by write_eof(): early releases of Python 3.11 make a clean end of it.
        self._ended = False
        self._unsent = bytearray()
        self._failure: TLSError | None = None
        #: Whether the peer will send no more plaintext.
        self.eof = False
        #: Whether the handshake is over; stays true when the stream breaks later.
        self.handshake_done = False

    # From and to the socket

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Take bytes that the socket received; none is its end of stream."""
        if self._failure is not None or self.eof:
            return
        if not ciphertext:
            self._ended = True
            return
        # A TLS record starts with its type, 20 to 24: no letter. OpenSSL would wait for more.
        if not self._started and bytes(ciphertext[:1]).isalpha():
            self._failure = TLSError("the peer spoke plain HTTP to a TLS port", plain_http=True)
            return
        self._started = True
        self._incoming.write(ciphertext)

    def pending_output(self, limit: int = -1) -> bytes:
        """The bytes to send next, at most `limit` of them; they are gone from here."""
        return self._outgoing.read(limit)

    @property
    def has_output(self) -> bool:
        """Whether `pending_output` has bytes."""
        return self._outgoing.pending > 0

    # From and to HTTP

    def read(self, limit: int = READ_SIZE) -> bytes:
        """Up to `limit` bytes of plaintext; b"" when there is none yet, or never again: see `eof`.

        What is left is read by the next call: call until b"". Raises TLSError.
        """
        if self._failure is not None:
            raise self._failure
        if self.eof:
            return b""
        tls = self._object
        chunks: list[bytes] = []
        size = 0
        try:
            while size < limit:
                chunk = tls.read(limit - size)
                if not chunk:  # close_notify
                    self.eof = True
                    break
                self.handshake_done = True
                chunks.append(chunk)
                size += len(chunk)
                # To ask OpenSSL in vain costs an exception.
                if not tls.pending() and not self._incoming.pending and not self._ended:
                    break
        except ssl.SSLWantReadError as error:
            # The version is known when the handshake is over.
            self.handshake_done = self.handshake_done or tls.version() is not None
            if self._ended:
                self._end(error, bool(chunks))
        except ssl.SSLZeroReturnError:
            self.eof = True
        except ssl.SSLError as error:
            self._end(error, bool(chunks))
        if self._unsent and self.handshake_done and self._failure is None:
            self.write(b"")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def write(self, plaintext: bytes | bytearray | memoryview) -> None:
        """Encrypt all of `plaintext` into the pending output. Raises TLSError.

        Memory is the caller's care: what is written stays pending until it is taken.
        During the handshake plaintext waits for its end.
        """
        if self._failure is not None:
            raise self._failure
        if self._unsent or not self.handshake_done:
            self._unsent += plaintext
            plaintext = self._unsent
        if not plaintext or not self.handshake_done:
            return
        try:
            # A memory BIO takes everything, so this writes all.
            self._object.write(plaintext)
        except ssl.SSLError as error:
            self._failure = TLSError(self._words(error))
            raise self._failure from error
        self._unsent = bytearray()

    def shutdown(self) -> None:
        """Put close_notify into the pending output. Does not wait for the peer's; never raises."""
        if self._failure is not None or not self.handshake_done:
            return
        # SSLWantReadError is the usual end: the peer's own close_notify has not come, and need not.
        with contextlib.suppress(OSError, ValueError):
            self._object.unwrap()

    def _end(self, error: ssl.SSLError, has_data: bool) -> None:
        """Enter `eof` or the failed state; raise now unless the caller still has data to return."""
        ragged = isinstance(error, ssl.SSLWantReadError)  # OpenSSL wants more, and there is no more
        if ragged and self._ragged and self.handshake_done:
            self.eof = True
            return
        self._failure = TLSError(
            (
                "the peer left without close_notify"
                if self.handshake_done
                else "the peer left during the handshake"
            )
            if ragged
            else self._words(error)
        )
        if not has_data:
            raise self._failure from error

    def _words(self, error: ssl.SSLError) -> str:
        place = "the TLS stream broke" if self.handshake_done else "the TLS handshake failed"
        return f"{place}: {_reason(error)}"

    # What is known of the peer

    @property
    def version(self) -> str | None:
        """The protocol ("TLSv1.3"), or None before the handshake is done."""
        return self._object.version()

    @property
    def cipher(self) -> tuple[str, str, int] | None:
        """Name, protocol and secret bits of the cipher, or None."""
        return self._object.cipher()

    @property
    def alpn_protocol(self) -> str | None:
        """What ALPN (RFC 7301) agreed on, or None."""
        return self._object.selected_alpn_protocol()

    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's verified certificate as `ssl.SSLSocket.getpeercert` shows it.

        None when it sent none, {} when it was not verified.
        """
        return self._object.getpeercert() if self.handshake_done else None

    def peer_certificate_der(self) -> bytes | None:
        """The client's certificate in DER, or None."""
        return self._object.getpeercert(binary_form=True) if self.handshake_done else None
