"""What a local server must refuse: other sites that the user visits can send requests to it, too."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Bytes of a request.
MOST_BYTES = 10_000_000
# Bytes of a refused one that are read, and forgotten.
MOST_READ = 100_000_000
# The page's own header: another site's page may not send it without being asked first, and is never allowed to.
OWN_HEADER = "x-igpt-studio"
TOKEN_HEADER = "x-igpt-token"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Guard:
    """Checks each request before the app sees it, and adds the headers that keep the page to itself.

    Args:
        app: what answers.
        hosts: values of `Host` that the server answers to; None: any, as a token is needed.
        token: what each request to /api must carry; None: nothing.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, token: str | None = None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        n_bytes = 0

        async def receive_some() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > MOST_BYTES:
                raise HTTPException(*_too_large(None))
            return message

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive_some, send_safely)
            return
        # Some clients read no answer before they have sent everything.
        while n_bytes < MOST_READ and (message := await receive()).get("more_body"):
            n_bytes += len(message["body"])
        status, text = refusal
        await JSONResponse({"error": text}, status, {"Connection": "close"})(scope, receive, send_safely)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason if a request is not to be answered."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts is not None and host.lower() not in self._hosts:
            return HTTPStatus.FORBIDDEN, f"expected a request to {min(self._hosts)}, got one to {host or 'no host'}"
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
            return HTTPStatus.FORBIDDEN, f"expected a request of the studio's own page, got one of {origin}"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return HTTPStatus.FORBIDDEN, "expected a request of the studio's own page, got one of another site"
        if self._token is not None and not self._has_token(scope, headers):
            return HTTPStatus.FORBIDDEN, "expected the whole address that the studio printed, got one without its token"
        if scope["method"] not in ("GET", "HEAD") and OWN_HEADER not in headers:
            return HTTPStatus.FORBIDDEN, f"expected the header {OWN_HEADER}, got none: only the page changes anything"
        length = headers.get("content-length", "0")
        return _too_large(length) if not length.isdigit() or int(length) > MOST_BYTES else None

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        """Whether the page's address, or the header of a request that it makes, has the token."""
        if scope["path"] == "/":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        elif scope["path"].startswith("/api/"):
            given = headers.get(TOKEN_HEADER, "")
        else:
            # The page's scripts and styles are no secret.
            return True
        return hmac.compare_digest(given.encode(), (self._token or "").encode())


def _too_large(length: str | None) -> tuple[int, str]:
    got = "more" if length is None else f"{int(length):,}" if length.isdigit() else length
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MOST_BYTES:,} bytes, got {got}: shrink the picture"
