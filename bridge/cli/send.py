"""``iblbridge send``: one command from a shell, and what each service did, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.table import Table


PIPE_WIDTH = 160  # columns, where there is no terminal to ask


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'send',
        help='send one command to the services, and show what each one did',
        description='Send one command through a segment that a worker serves, and show what each service did.',
        epilog='Exit status: 0 done, 1 a service failed, 2 misuse, 3 no segment or worker, 4 outcome not known.',
    )
    parser.add_argument('segment', metavar='SEGMENT', help='such as rig0')
    parser.add_argument(
        'message',
        metavar='MESSAGE',
        help='EXPINIT, EXPSTART, EXPEND, EXPCLEANUP, EXPINTERRUPT, EXPSTATUS, EXPINFO, ALYX, PING or SERVICES',
    )
    parser.add_argument(
        'args', nargs='*', metavar='ARG', help='its arguments, each as JSON, or as text if it is not JSON'
    )
    parser.add_argument('--services', default='', metavar='A,B', help='only to these services')
    parser.add_argument(
        '--timeout', type=float, default=12.0, metavar='S', help='how long to wait for the answer (default 12)'
    )
    parser.add_argument('--json', action='store_true', help='print the response as JSON')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send, print, and return the exit status of the outcome."""
    from bridge.cli import exit_status
    from bridge.errors import BridgeError
    from bridge.numbers import CODES
    from bridge.segment.client import Client

    message = int(args.message) if args.message.isascii() and args.message.isdigit() else args.message.upper()
    services = [name.strip() for name in args.services.split(',') if name.strip()]
    arguments = [parse_argument(text) for text in args.args]
    code, response, sentence = 0, None, ''
    try:
        with closing(Client(args.segment, f'iblb-send-{os.getpid()}')) as client:  # a failed command is no lost client
            response = client.call(message, *arguments, services=services, timeout=args.timeout)
            code, sentence = response['code'], response['error']
    except BridgeError as e:
        code, response, sentence = e.code, e.response, f'{e.name}: {e.text}'
    except (TypeError, ValueError) as e:
        code, sentence = CODES['IBLB_E_ARGUMENT'], f'{args.message}: {e}'
    if response is not None:
        show(response, as_json=args.json)
    if sentence:
        print(f'iblbridge send: {sentence}', file=sys.stderr)
    return exit_status(code)


def parse_argument(text: str) -> Any:
    """Return the JSON value that `text` is, or `text` itself; NaN and Infinity are text, for JSON has none."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


def show(response: dict[str, Any], *, as_json: bool) -> None:
    """Print a response body."""
    if as_json:
        print(json.dumps(response))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if response['services']:
        console.print(service_table(response) if response['message'] == 'SERVICES' else table(response))
    elif response['code'] >= 0:
        took = milliseconds(response['sent'], response['finished'])
        console.print(f'{response["message"]}: answered by the worker{took and f" in {took} ms"}')


def table(response: dict[str, Any]) -> Table:
    """Return a response body as a table: one row per service."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    head = ('service', 'ok', 'state', 'echo ms', 'reply ms', 'data or error')
    result = Table(*head, title=response['message'], title_justify='left', box=box.SIMPLE_HEAD)
    result.columns[3].justify = result.columns[4].justify = 'right'
    for service in response['services']:
        said = service['error'] or (json.dumps(service['data']) if service['data'] else '')
        result.add_row(
            Text(service['name']),
            Text('yes', 'green') if service['ok'] else Text('no', 'bold red'),
            service['state'].replace('_', ' '),
            milliseconds(service['sent'], service['echoed']),
            milliseconds(service['sent'], service['answered']),
            Text(said),
        )
    return result


def service_table(response: dict[str, Any]) -> Table:
    """Return the response to SERVICES as a table: one row per configured service."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from bridge.numbers import STATUSES

    head = ('service', 'address', 'health', 'heard', 'status', 'experiment', 'last error')
    result = Table(*head, box=box.SIMPLE_HEAD)
    for service in response['services']:
        data = service['data']
        heard = f'{data["age_ms"] / 1000:.1f} s ago' if data.get('age_ms', -1) >= 0 else 'never'
        status = next((name for name, number in STATUSES.items() if number == data.get('status')), '')
        said = (data.get('exp_ref', ''), data.get('last_error', ''))
        cells = (data.get('name', ''), data.get('uri', ''), data.get('health', ''), heard, status, *said)
        result.add_row(*(Text(str(cell)) for cell in cells))
    return result


def milliseconds(start: int, end: int) -> str:
    """Return the time between two stamps (ns, 0 for never) in ms with one decimal, or "" if one of them is missing."""
    return f'{(end - start) / 1e6:.1f}' if start and end else ''
