"""``iblbridge watch``: commands and events of a rig as they happen, one line each, until Ctrl-C.

It attaches as a client does and subscribes to all events, and to what the worker tells of the commands of all programs.
So it sees what happens from now on, in the worker's order, and holds nothing up: what it does not read in time is lost
to it alone, and said. It does not see what services replied (the journal has that), the arguments of ALYX, nor what
happens while no worker serves.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bridge.cli.console import ended_by_signals
from bridge.cli.words import example
from bridge.wall import wall

if TYPE_CHECKING:
    from bridge.segment.client import Client

CLOSE = ('progress', 'tick')  # what is told to those who look closely, and is no news to a reader
LOOK = 0.1  # s: how long one wait takes at most, and how often a worker is looked for


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'watch',
        help='show commands and events as they happen',
        description='Show the commands of all programs and the events of the rig as they happen, one line each, until '
        'Ctrl-C. Failures are marked with !, warnings with ~. What services replied is in the journal.',
        epilog=example('iblbridge watch rig0'),
    )
    parser.add_argument('segment', metavar='SEGMENT', help='the name of the rig, such as rig0')
    parser.add_argument('--json', action='store_true', help='print each as a JSON object')
    parser.set_defaults(run=run)


@ended_by_signals()
def run(args: argparse.Namespace) -> int:
    """Show what happens until Ctrl-C; 3 if there is no segment."""
    from bridge.cli import exit_status
    from bridge.cli.console import plain_console
    from bridge.cli.journal import Printer
    from bridge.errors import BridgeError

    printer = Printer(plain_console(), as_json=args.json)
    try:
        for entry in entries(args.segment):
            printer.show(entry)
    except BridgeError as e:
        print(f'iblbridge watch: {e.name}: {e.text}', file=sys.stderr)
        return exit_status(e.code)
    return 0


def entries(
    segment: str,
    say: Callable[[str], None] | None = None,
    idle: Callable[[Client], object] = lambda client: None,
    tool: str = 'watch',
) -> Iterator[dict[str, Any]]:
    """Yield what happens, as entries of a journal.

    A worker that ends is waited for, and so is a segment that is made anew.

    Parameters
    ----------
    segment : str
        The rig's name.
    say : callable, optional
        Told when it has begun to look, and at what; standard error by default.
    idle : callable
        Called with the client whenever there is nothing to yield, at most every `LOOK`.
    tool : str
        Who looks: the client is called ``iblb-TOOL-PID``.

    Raises
    ------
    bridge.errors.BridgeError
        There is no such segment at the beginning, or it cannot be used.
    """
    from bridge import discretion
    from bridge.errors import BridgeError, NoWorker
    from bridge.numbers import EVENTS
    from bridge.segment.served import COMMANDS
    from bridge.segment.tool import Tool

    begun, say = False, say or _say
    while True:
        try:
            with Tool(segment, tool) as client:
                begun, expected = True, 0
                client.subscribe(*EVENTS, COMMANDS)
                idle(client)
                said: bool | None = None
                while True:
                    if (alive := client.worker_state().alive) is not said:
                        said = alive
                        say(f'{segment}: {"watching" if alive else "no worker serves it; waiting for one"}')
                        for line in listening(segment) if alive else ():
                            say(f'{segment}: {line}')
                    try:
                        event = client.next_event(LOOK)
                    except NoWorker:
                        idle(client)
                        time.sleep(LOOK)
                        continue
                    if event is None:
                        idle(client)
                        continue
                    if expected and (lost := event['sequence'] - expected):
                        yield {'kind': 'gap', 'lost': lost, 'wall': wall()}
                    expected = event['sequence'] + 1
                    if event.get('kind') in CLOSE:
                        continue
                    yield {'kind': 'event', **discretion.entry(event)}  # a service may say a token
        except BridgeError as e:
            if not begun or e.name not in ('IBLB_E_STALE', 'IBLB_E_NO_SEGMENT', 'IBLB_E_NO_WORKER'):
                raise
            if e.name == 'IBLB_E_STALE':
                say(f'{segment}: the segment was replaced or removed; waiting for one')
        time.sleep(LOOK)


def listening(segment: str) -> list[str]:
    """Return a line for each listener of a worker that has said whom it listens for."""
    from bridge.cli.lines import as_text
    from bridge.errors import BridgeError
    from bridge.segment import inspection, listeners

    try:
        return [as_text(listeners.sentence(one)) for one in inspection.inspect(segment).listeners]
    except BridgeError:  # just replaced
        return []


def _say(line: str) -> None:
    print(f'iblbridge watch: {line}', file=sys.stderr, flush=True)
