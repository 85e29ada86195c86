"""Serves the page of a rig: one loop, a bounded number of browsers, and each gets the newest state when it can take it.

A browser that is slow misses states, and holds nobody up; one that takes nothing for `SLOW` is cut off, and comes back
by itself. Only the files of `FILES` can be had, whatever an address says.

Who has not been let in yet, for it has not asked or does not know the token, is a stranger. Strangers keep nobody out:
an answer that refuses ends the connection, and where there is no room, the stranger who has been here longest goes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from bridge.web import guard
from bridge.web.address import reached
from bridge.web.metrics import CONTENT_TYPE
from bridge.web.seldom import STRANGERS

log = logging.getLogger(__name__)

FILES = {
    '/page.css': ('page.css', 'text/css'),
    '/page.js': ('page.js', 'text/javascript'),
    '/words.js': ('words.js', 'text/javascript'),
    '/icon.svg': ('icon.svg', 'image/svg+xml'),
}
BROWSERS = 32  # that look at once
CONNECTIONS = 96  # in all
SLOW = 5.0  # s in which a browser has to take something, or say what it wants
OLD = 3.0  # s after which a state tells nothing
_SEND_BUFFER = 1 << 16  # bytes that the system keeps for a browser that does not read
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rig(Protocol):
    """What is behind the page: `bridge.web.follow.Follower`."""

    def press(self) -> dict[str, Any]:
        """Send EXPINTERRUPT."""

    def metrics(self, pages: int) -> bytes:
        """Return what Prometheus reads."""


class Newest:
    """The newest state, and those who wait for a newer one. In the loop's thread."""

    def __init__(self) -> None:
        self.text, self.at, self.looking = '', -OLD, 0
        self._number = 0
        self._changed = asyncio.Event()

    def show(self, text: str) -> None:
        """Take a state."""
        self.text, self.at = text, time.monotonic()
        self._number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def is_old(self) -> bool:
        """Tell whether nothing came for long."""
        return time.monotonic() - self.at > OLD

    async def each(self) -> AsyncIterator[str]:
        """Yield the newest state whenever there is one that was not yielded."""
        seen = 0
        while True:
            if seen == self._number:
                await self._changed.wait()
            seen = self._number
            yield self.text

    @contextmanager
    def look(self) -> Iterator[None]:
        """Count a browser in; `web.HTTPServiceUnavailable` if there are too many."""
        if self.looking >= BROWSERS:
            raise web.HTTPServiceUnavailable(text=f'{BROWSERS} browsers look at this page already.\n')
        self.looking += 1
        try:
            yield
        finally:
            self.looking -= 1


class Page:
    """The page of one rig.

    Parameters
    ----------
    rig : Rig
        What is behind.
    segment : str
        Its name.
    token : str
        What a browser has to know; "": nothing.
    hosts : tuple of str
        Names of this PC.
    """

    def __init__(self, rig: Rig, segment: str, token: str = '', hosts: tuple[str, ...] = ()) -> None:
        self.newest = Newest()
        self.known: set[Any] = set()  # connections of those who were let in
        self._rig, self._token = rig, token
        self._hosts = (*hosts, socket.gethostname().lower())
        self._cookie = f'iblbridge-{segment}'
        self._press = secrets.token_urlsafe(24)
        here = resources.files('bridge.web') / 'static'
        self._files = {path: ((here / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
        template = (here / 'page.html').read_text(encoding='utf-8')
        self._html = template.replace('{{segment}}', segment).replace('{{press}}', self._press)

    def application(self) -> web.Application:
        """Return it as an application."""
        app = web.Application(middlewares=[self._guarded], client_max_size=1024)
        app.router.add_get('/', self._get_page)
        for path in FILES:
            app.router.add_get(path, self._get_file)
        app.router.add_get('/api/state', self._get_state)
        app.router.add_get('/api/events', self._get_events)
        app.router.add_get('/metrics', self._get_metrics)
        app.router.add_post('/api/interrupt', self._post_interrupt)
        app.on_response_prepare.append(_add_headers)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
        except web.HTTPException as refused:
            refused.force_close()
            raise
        self.known.add(request.protocol)
        if request.path == '/' and self._token and 'token' in request.query:
            return self._enter()
        return await handler(request)

    def _check(self, request: web.Request) -> None:
        """Raise what is answered to who is not let in."""
        if not guard.is_our_host(request.headers.get('Host', ''), self._hosts):
            raise web.HTTPMisdirectedRequest(
                text='This name is none of this PC. Use its address, or add the name to hosts (see bridge/README.md).\n'
            )
        if request.path == '/' and self._token and 'token' in request.query:
            if not guard.same(request.query['token'], self._token):
                raise web.HTTPUnauthorized(text='This token is not valid (any more): see what the worker told last.\n')
            return
        cookie, authorization = request.cookies.get(self._cookie, ''), request.headers.get('Authorization', '')
        if not guard.is_let_in(self._token, cookie, authorization):
            raise web.HTTPUnauthorized(
                text='This page is for those who know its token. Open the address that the worker told at its start.\n',
                headers={'WWW-Authenticate': 'Bearer'},
            )

    def _enter(self) -> web.StreamResponse:
        """Put a token that stands in the address into a cookie, where nobody sees it."""
        answer = web.Response(status=303, headers={'Location': '/'})
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite='Lax', max_age=90 * 86400)
        return answer

    async def _get_page(self, request: web.Request) -> web.Response:
        return web.Response(text=self._html, content_type='text/html')

    async def _get_file(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset='utf-8')

    async def _get_state(self, request: web.Request) -> web.Response:
        if self.newest.is_old():
            raise web.HTTPServiceUnavailable(text='The state of the rig is not known.\n')
        return web.Response(text=self.newest.text, content_type='application/json')

    async def _get_metrics(self, request: web.Request) -> web.Response:
        if self.newest.is_old():
            raise web.HTTPServiceUnavailable(text='The state of the rig is not known.\n')
        return web.Response(body=self._rig.metrics(self.newest.looking), headers={'Content-Type': CONTENT_TYPE})

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        """Send each state as it comes, as server-sent events."""
        with self.newest.look():
            response = web.StreamResponse(headers={'Content-Type': 'text/event-stream'})
            await response.prepare(request)
            try:
                await response.write(b'retry: 1000\n\n')
                async for text in self.newest.each():
                    await asyncio.wait_for(response.write(f'data: {text}\n\n'.encode()), SLOW)
            except (asyncio.TimeoutError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _post_interrupt(self, request: web.Request) -> web.Response:
        if why := guard.press_refused(request.headers, self._press):
            log.warning('the button was refused to %s: %s', request.remote, why, extra=STRANGERS)
            raise web.HTTPForbidden(text=f'Nothing was sent: {why}.\n')
        log.warning('EXPINTERRUPT: the button was pressed at %s', request.remote)
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, self._rig.press))


async def _add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.update(guard.HEADERS)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens; OSError if the address cannot be had."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Windows would let others take a port of ours, POSIX keep the one of a worker that was killed just now.
        exclusive = getattr(socket, 'SO_EXCLUSIVEADDRUSE', None)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        listening.bind((host, port))
        listening.listen(CONNECTIONS)
    except BaseException:
        listening.close()
        raise
    return listening


@asynccontextmanager
async def serving(page: Page, listening: socket.socket) -> AsyncIterator[None]:
    """Serve a page at a socket within a block."""
    runner = web.AppRunner(page.application(), access_log=None, keepalive_timeout=SLOW, shutdown_timeout=0.5)
    await runner.setup()
    server = runner.server
    assert server is not None
    loop = asyncio.get_running_loop()

    def connected() -> asyncio.Protocol:
        page.known.intersection_update(server.connections)
        if len(page.known) >= CONNECTIONS:
            return _Closed()
        if len(server.connections) >= CONNECTIONS:
            _make_room(handler for handler in server.connections if handler not in page.known)
        handler: Any = server()
        loop.call_later(SLOW, _close_if_stranger, handler, page.known)
        return handler  # type: ignore[no-any-return]

    listener = await loop.create_server(connected, sock=listening)
    try:
        yield
    finally:
        listener.close()
        await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # connections that have just gone
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _make_room(strangers: Iterable[Any]) -> None:
    """Cut the first of them off who is not being cut off; his place is free in the next turn of the loop."""
    for handler in strangers:
        transport = handler.transport  # None: gone, and its task is just ending
        if transport is not None and not transport.is_closing():
            transport.abort()
            return


def _close_if_stranger(handler: Any, known: Collection[Any]) -> None:
    """Close the connection of somebody who has not asked for anything that he may have."""
    if handler.transport is not None and handler not in known:
        handler.transport.close()


class _Closed(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def urls(address: tuple[str, int], token: str = '') -> list[str]:
    """Return where browsers find a page that listens at an address, best first.

    Examples
    --------
    >>> urls(('127.0.0.1', 8650)), urls(('::1', 8650), 'x')
    (['http://127.0.0.1:8650/'], ['http://[::1]:8650/?token=x'])
    """
    port, query = address[1], token and f'?token={token}'
    hosts = [f'[{host}]' if ':' in host else host for host in reached(address[0])]
    return [urlsplit(f'http://{host}:{port}/{query}').geturl() for host in hosts]
