"""By which names a grid may be called.

A web page may make the name that it came from lead to this machine (DNS rebinding). To the browser the grid
is then the page's own origin, and only the Host of the request still tells.
"""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fedplan.grid.addresses import is_address, is_loopback
from fedplan.grid.settings import Settings
from fedplan.grid.web.correlated import Correlated


class KnownHosts:
    """Serves requests and sockets that call the grid by a name that it may have, and refuses others.

    Args:
        app: the grid.
        settings: how it runs.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._named = {name.lower() for name in settings.allowed_hosts}
        self._takes_all = not self._named and settings.owner_token is not None
        self._takes_addresses = settings.insecure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] not in ("http", "websocket") or self._may_be(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it is accepted: 403
        else:
            await _REFUSAL(scope, receive, send)

    def _may_be(self, host: str) -> bool:
        name = without_port(host)
        if self._takes_all or name in self._named or is_loopback(name) or name in _ANY_ADDRESS:
            return True
        return self._takes_addresses and is_address(name)


_ANY_ADDRESS = ("0.0.0.0", "::")  # nosec B104  # binds nothing
"""To connect to these reaches the machine itself."""

_REFUSAL = Correlated(
    JSONResponse(
        {
            "error": "this grid is not to be called by this name; FEDPLAN_ALLOWED_HOSTS allows its operator "
            "to give it names"
        },
        421,
    )
)


def without_port(host: str) -> str:
    """The name in a Host header: in lower case, an address of IPv6 without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
