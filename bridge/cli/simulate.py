"""``iblbridge simulate``: one simulated service, on a UDP port of this computer, until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import sys
from contextlib import suppress
from typing import Any

from bridge.cli.words import duration, example
from bridge.nearest import did_you_mean

LOOPBACK = '127.0.0.1'


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'simulate',
        help='run a simulated service to test against',
        description='Run a simulated service that echoes and replies like a camera or ephys computer, until Ctrl-C. '
        'Prints "READY name address" when it listens.',
        epilog=example('iblbridge simulate --name cameras --port 11001 --delay 2s'),
    )
    parser.add_argument('--name', type=_name, required=True, help='what it calls itself in replies, such as cameras')
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--bind',
        type=_address,
        default=None,
        metavar='HOST:PORT',
        help=f'IPv4 address to listen on; default {LOOPBACK}:11001',
    )
    where.add_argument('--port', type=_port, help=f'UDP port of {LOOPBACK} to listen on; 0 takes a free one')
    parser.add_argument(
        '--delay', type=duration, default=0.0, metavar='TIME', help='be slow: wait this long before each reply'
    )
    deaf = parser.add_mutually_exclusive_group()
    deaf.add_argument('--deaf', action='store_true', help='never echo or reply')
    deaf.add_argument(
        '--deaf-after', type=_message, metavar='MESSAGE', help='go silent once this message has been answered'
    )
    parser.add_argument(
        '--refuse',
        type=_message,
        nargs='+',
        action='extend',
        default=[],
        metavar='MESSAGE',
        help='answer these with an error',
    )
    parser.add_argument(
        '--dies-after',
        type=duration,
        metavar='TIME',
        help='this long after a start, stop and send EXPINTERRUPT, as a dying camera does',
    )
    parser.add_argument('--echo', action='store_true', help='reply with what it got, to see what a program sends')
    parser.add_argument(
        '--main-sync', action='store_true', help='say in EXPINFO that this is the main synchronization device'
    )
    parser.add_argument(
        '--until-eof', action='store_true', help='also end when standard input ends, for programs that start this one'
    )
    parser.add_argument('-v', '--verbose', action='store_true', help='print a line for each message')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; 3 if the address cannot be had."""
    import asyncio

    from bridge.cli.console import go_on_when_clicked, on_stdin_end, on_stop_signals, say
    from bridge.services.simulate import Behaviour, Simulator

    host, port = args.bind or (LOOPBACK, 11001 if args.port is None else args.port)
    behaviour = Behaviour(
        args.name,
        args.delay,
        args.deaf,
        args.deaf_after or '',
        frozenset(args.refuse),
        args.main_sync,
        args.dies_after,
        args.echo,
    )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        simulator = Simulator(behaviour, host, port, say, args.verbose)

        def stop(*reason: str) -> None:
            with suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(simulator.stop)

        on_stop_signals(stop)
        go_on_when_clicked()
        if args.until_eof:
            on_stdin_end(stop)
        await simulator.run()

    # Windows' default loop goes deaf after an ICMP reset (cpython issue 91227); the selector loop does not.
    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(serve())
    except OSError as e:
        print(f'iblbridge simulate: cannot listen on {host}:{port}: {e.strerror or e}; {_advice(e)}.', file=sys.stderr)
        return 3
    finally:
        loop.close()
    return 0


def _advice(error: OSError) -> str:
    """Return what to do about an address that cannot be had."""
    if error.errno == errno.EADDRNOTAVAIL:
        return 'this computer has no such address; --bind 0.0.0.0 listens on all that it has'
    if error.errno == errno.EACCES:
        return 'take a port above 1023, or --port 0'
    return 'another program has it; end that, or try --port 0'


def _message(text: str) -> str:
    """Return the name of a message as argparse's type."""
    from bridge.services.simulate import MESSAGES

    if (name := text.upper()) not in MESSAGES:
        offer = did_you_mean(text, MESSAGES) or f'; there are {", ".join(MESSAGES)}'
        raise argparse.ArgumentTypeError(f'{text!r} is not a message{offer}')
    return name


def _name(text: str) -> str:
    """Return a service's name as argparse's type; what a worker could not call it is refused."""
    from bridge.addresses import ConfigError, check_name

    try:
        return check_name(text, 'name')
    except ConfigError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _port(text: str) -> int:
    """Return a port as argparse's type."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f'{text!r} is not a port; write a number from 0 to 65535')
    return int(text)


def _address(text: str) -> tuple[str, int]:
    """Return host and port as argparse's type."""
    host, colon, port = text.partition(':')
    try:
        return str(ipaddress.IPv4Address(host)), _port(port) if colon else 11001
    except ValueError as e:
        raise argparse.ArgumentTypeError(f'{text!r} is not an IPv4 address; write {LOOPBACK}:11001') from e
