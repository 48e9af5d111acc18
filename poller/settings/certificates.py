"""CA certificates that a later Python rejects."""

import ssl
from pathlib import Path
from typing import Final

REQUIRED: Final = {
    "a key usage": bytes.fromhex("0603551d0f"),
    "critical basic constraints": bytes.fromhex("0603551d130101ff"),
    "a subject key identifier": bytes.fromhex("0603551d0e"),
}
"""Extensions that RFC 5280 4.2.1 requires of a CA, with their object identifiers in DER."""


def missing_extensions(path: Path) -> list[str]:
    """Return the extensions that a CA certificate in a file lacks.

    Python 3.13 and later require them (VERIFY_X509_STRICT), 3.11 and 3.12 do not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    certificates = context.get_ca_certs(binary_form=True)
    return [
        name
        for name, extension in REQUIRED.items()
        if not all(extension in certificate for certificate in certificates)
    ]
