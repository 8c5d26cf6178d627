"""The certificates that this process trusts: read once, for reading them takes longer than many a request."""

import functools
import ssl

import httpx


@functools.cache
def trusted() -> ssl.SSLContext:
    """For all clients of the process: certifi's certificates, or those that ``SSL_CERT_FILE`` names."""
    return httpx.create_ssl_context()
