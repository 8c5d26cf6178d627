"""HTTP as Chromium sends it for syft.js: a page at another origin, preflights, raw uploads.

Heads as Chromium 156 writes them; older ones lack the sec-ch-ua lines.
"""

from .replay import Answer, Ask, Open, Request

AGENT = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/156.0.0.0 Safari/537.36"
)
_ABOUT = f"""\
sec-ch-ua-platform: "Linux"
{AGENT}
sec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"
sec-ch-ua-mobile: ?0"""
_PAGE = """\
Accept: */*
Origin: http://localhost:8000
Sec-Fetch-Site: same-site
Sec-Fetch-Mode: cors
Sec-Fetch-Dest: empty
Referer: http://localhost:8000/
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9"""

SOCKET = f"""\
Host: <host>
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
{AGENT}
Upgrade: websocket
Origin: http://localhost:8000
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Sec-WebSocket-Key: <key>
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"""

FRAGMENTS = (130_978, 22, 130_978, 131_000)
"""Sizes of the fragments in which Chromium sends a long message; the last is that of all further ones."""

READABLE = {"access-control-allow-origin": r"\*"}
"""Without it the page may not see the answer, a refusal neither."""


def preflight(path: str, asks_for: str = "Access-Control-Request-Headers: content-type\n") -> Ask:
    """What is asked before a POST. Before the speed test's upload no header is asked for."""
    head = f"""\
Host: <host>
Connection: keep-alive
Accept: */*
Access-Control-Request-Method: POST
{asks_for}Origin: http://localhost:8000
{AGENT}
Sec-Fetch-Mode: cors
Sec-Fetch-Site: same-site
Sec-Fetch-Dest: empty
Referer: http://localhost:8000/
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9"""
    allowed = READABLE | {"access-control-allow-methods": r".*\bPOST\b.*"}
    if asks_for:
        allowed |= {"access-control-allow-headers": "content-type"}
    return Ask(Request(f"OPTIONS {path}", head), Answer(200, headers=allowed))


def post(path: str, body: str, answer: Answer) -> list[Ask]:
    """`fetch` with JSON: a preflight, and the POST."""
    head = f"Host: <host>\nConnection: keep-alive\nContent-Length: <length>\n{_ABOUT}\n"
    head += f"Content-Type: application/json\n{_PAGE}"
    return [preflight(path), Ask(Request(f"POST {path}", head, body), answer)]


def get(path: str, answer: Answer) -> Ask:
    """`fetch` or XMLHttpRequest without a body."""
    return Ask(Request(f"GET {path}", f"Host: <host>\nConnection: keep-alive\n{_ABOUT}\n{_PAGE}"), answer)


def upload(path: str, body: bytes, answer: Answer) -> list[Ask]:
    """XMLHttpRequest with an ArrayBuffer, its progress listened to: no Content-Type, but a preflight."""
    head = f"Host: <host>\nConnection: keep-alive\nContent-Length: <length>\n{_ABOUT}\n{_PAGE}"
    return [preflight(path, asks_for=""), Ask(Request(f"POST {path}", head, body), answer)]


def read(status: int, body: object) -> Answer:
    """An answer that the page may read."""
    return Answer(status, body, READABLE)


OPEN = Open(SOCKET)
