"""Why a connection came to nothing, in words: libraries hide it below errors of their own. Used by this package alone."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import NamedTuple

import aiohttp

_UNTRUSTED = (
    "give Python the certificate of who signed it: SSL_CERT_FILE=/path/to/ca.pem; or check the URL's host"
)
_PLAIN = "it speaks http, not https: write http:// in the URL, or let the server have a certificate"
_SECURE = (
    "where it speaks https, write https:// in the URL; else start it with `ravsock serve`, or check the URL"
)


class Cause(NamedTuple):
    received: str
    hint: str
    """Empty where the cause is no more than that nobody answers."""


def cause_of(error: BaseException, url: str) -> Cause:
    """The innermost cause, and what to do about it where it has to do with TLS. `url`: what was to be reached."""
    causes = list(_chain(error))
    for one in causes:
        if isinstance(one, aiohttp.ClientSSLError):  # such are SSLErrors too, but without their attributes
            continue
        if isinstance(one, ssl.SSLCertVerificationError):
            return Cause(f"certificate verify failed: {one.verify_message}", _UNTRUSTED)
        if isinstance(one, ssl.SSLError):
            plain = one.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
            return Cause(f"no TLS connection: {one.reason}", _PLAIN if plain else "")
        if isinstance(one, aiohttp.ServerDisconnectedError) and url.startswith(("http:", "ws:")):
            return Cause("it closed the connection without an answer", _SECURE)
    return Cause(_words(causes[-1]), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _words(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {error}" if str(error) else name
