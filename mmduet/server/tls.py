"""Loads the certificate and key of a server that uses TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from mmduet.errors import OptionError


def create_tls_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return a TLS context for a PEM certificate chain and its private key, by default in the same file.

    Raises ``OptionError`` that names the file.
    """
    _check_readable("tls_certificate", certificate)
    if key is not None:
        _check_readable("tls_key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # without it, OpenSSL asks on the terminal
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise OptionError(
            f"tls_certificate {certificate} and tls_key {key or certificate} cannot be used ({reason}); "
            "expected a PEM certificate chain and its private key without a password"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_readable(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise OptionError(
            f"{setting} {path} cannot be read ({error.strerror}); check the name and its permissions"
        ) from None
