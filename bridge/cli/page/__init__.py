"""``iblbridge page``: the status page of a rig, for browsers, until Ctrl-C; ``serve --http`` starts it by itself.

Standard output gets one line, ``READY <address>``, once browsers can connect; ``READY <address> or <address>`` if it is
at all addresses of this PC: its address and its name. A token comes in the environment, where
other users do not see it.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from bridge.addresses import LOOPBACK, NotToBeHad
from bridge.cli.words import example, segment_name
from bridge.numbers import EXITS
from bridge.web.address import DEFAULT_PORT, EXAMPLE

if TYPE_CHECKING:
    import socket

    from bridge.web.address import PageConfig

TOKEN = 'IBLBRIDGE_HTTP_TOKEN'
TAKEN = 2.0  # s for which an address may still belong to a page that ends just now
NICE = 5  # steps behind the worker, where the processor is short
MISSING = "the status page needs the extra web: pip install 'iblbridge[web]'"

log = logging.getLogger(__name__)


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'page',
        help='show a rig in a browser',
        description='Serve a page that shows a rig at a glance in any browser, with a button for EXPINTERRUPT, until '
        'Ctrl-C. A worker that is started with --http does this by itself.',
        epilog=example(
            'iblbridge page rig0 --http 127.0.0.1:8650',
            f'Whoever opens it from another computer has to know a token. It is printed, or taken from {TOKEN}.',
        ),
    )
    parser.add_argument('segment', metavar='SEGMENT', type=segment_name, help='the name of the rig, such as rig0')
    add_http(parser.add_argument, default=f':{DEFAULT_PORT}')
    parser.add_argument(
        '--host',
        action='append',
        default=[],
        metavar='NAME',
        help='a name by which browsers find this computer, beside its own; may be given several times',
    )
    parser.add_argument(
        '--until-eof', action='store_true', help='end when standard input ends, and only then, for who starts this one'
    )
    parser.set_defaults(run=run)


def add_http(add: Any, **options: Any) -> None:
    """Describe the option that page and serve share."""
    if 'default' in options:
        says = f'where it is; default {LOOPBACK}:{DEFAULT_PORT}, this computer alone; 0.0.0.0 for others, too'
    else:
        says = f'show the rig in a browser at this address, such as {EXAMPLE}'
    add(
        '--http',
        metavar='ADDRESS',
        help=says,
        **options,
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; 3 if the address cannot be had, 2 if it is none, or the extra is not installed."""
    from bridge.config import ConfigError
    from bridge.web.address import check_token, parse_page

    try:
        page = parse_page({'address': args.http, 'hosts': args.host}, '--http')
        token = check_token(os.environ.get(TOKEN, ''), TOKEN)
        return _serve(args, page, token)
    except ConfigError as e:
        print(f'iblbridge page: {e}', file=sys.stderr)
        return EXITS['NO_RIG' if isinstance(e, NotToBeHad) else 'MISUSE']


def _serve(args: argparse.Namespace, page: PageConfig, token: str) -> int:
    import asyncio
    import secrets
    import signal

    from bridge.cli.console import go_on_when_clicked, on_stdin_end, on_stop_signals, say
    from bridge.config import ConfigError

    try:
        from bridge.web import server
    except ImportError as e:
        if not (e.name or '').startswith(('aiohttp', 'prometheus_client')):
            raise
        raise ConfigError(f'{MISSING}.') from e
    from bridge.web.follow import Follower
    from bridge.web.seldom import Seldom

    logging.basicConfig(level=logging.INFO, stream=sys.stdout if args.until_eof else sys.stderr, format='%(message)s')
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())
    if not token and not page.is_local:
        token = secrets.token_urlsafe(24)

    async def serve(listening: socket.socket) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop(*reason: str) -> None:
            loop.call_soon_threadsafe(stopped.set)

        if args.until_eof:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who started us, and may take its time
            if sys.platform != 'win32':
                os.nice(NICE)
            on_stdin_end(stop)
        else:
            on_stop_signals(stop)
            go_on_when_clicked()
        follower = Follower(args.segment, lambda text: loop.call_soon_threadsafe(shown.newest.show, text))
        shown = server.Page(follower, args.segment, token, page.hosts)
        async with server.serving(shown, listening):
            follower.start()
            try:
                say(f'READY {" or ".join(server.urls(listening.getsockname(), token))}')
                if not args.until_eof and _is_missing(args.segment):
                    log.warning('there is no rig %s yet; the page waits for iblbridge serve', args.segment)
                await stopped.wait()
            finally:
                await loop.run_in_executor(None, follower.stop)

    # As everywhere here: Windows' default loop has its own ways with connections that are reset.
    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(serve(_bound(page)))
    finally:
        loop.close()
    return 0


def _is_missing(segment: str) -> bool:
    """Tell whether there is no such rig."""
    from bridge.errors import BridgeError
    from bridge.segment import inspection

    try:
        inspection.inspect(segment)
    except BridgeError as e:
        return e.name == 'IBLB_E_NO_SEGMENT'
    return False


def _bound(page: PageConfig) -> socket.socket:
    """Return a socket at the page's address; ConfigError if it cannot be had."""
    from bridge.listen.server import not_to_be_had, why_not_bound
    from bridge.web.server import bound

    until = time.monotonic() + TAKEN
    while True:
        try:
            return bound(page.host, page.port)
        except OSError as e:
            if time.monotonic() > until or e.errno != errno.EADDRINUSE:
                sentence = f'--http: {page.address} cannot be had: {why_not_bound(e, page.port)}.'
                raise not_to_be_had(e, sentence) from e
        time.sleep(0.05)
