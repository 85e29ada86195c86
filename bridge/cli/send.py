"""``iblbridge send``: one command from a shell, and what each service did, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from bridge.cli.console import ended_by_signals
from bridge.cli.lines import milliseconds
from bridge.cli.words import command_arguments, example, waiting

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.segment.client import Client

WIDE = 100  # columns
# Only this process can wait for the request, and it ends.
_LOST = 'The answer is lost here: ask EXPSTATUS before you repeat it.'


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'send',
        help='send one command, and show what each service did',
        description='Send one command to the services of a rig that a worker serves, and show what each of them did.',
        epilog=example(
            'iblbridge send rig0 EXPSTART 2026-01-01_1_subject',
            'Exit status: 0 done, perhaps with a warning, 1 a service failed, 2 misuse, 3 no rig of that name or no '
            'worker, 4 the outcome is not known.',
        ),
    )
    parser.add_argument('segment', metavar='SEGMENT', help='the name of the rig, such as rig0')
    parser.add_argument(
        'message',
        metavar='MESSAGE',
        help='EXPINIT, EXPSTART, EXPEND, EXPCLEANUP, EXPINTERRUPT, EXPSTATUS, EXPINFO, ALYX, PING or SERVICES, in '
        'upper or lower case',
    )
    parser.add_argument(
        'args',
        nargs='*',
        default=[],
        metavar='ARG',
        help='its arguments, each as JSON or as plain words; @FILE stands for the text of a file and - for that of '
        'standard input, so that nobody sees a token; a single array is taken as all arguments',
    )
    parser.add_argument(
        '--args-file', metavar='FILE', help='take the arguments from a file, as @FILE does; - for standard input'
    )
    parser.add_argument('--services', metavar='A,B', help='send it to these services only')
    parser.add_argument(
        '--timeout',
        type=waiting,
        default=12.0,
        metavar='TIME',
        help='how long to wait for the answer: 5s, 500ms, or a number of seconds (default: 12)',
    )
    parser.add_argument('--json', action='store_true', help='print the response as JSON')
    parser.set_defaults(run=run)


@ended_by_signals()
def run(args: argparse.Namespace) -> int:
    """Send, print, and return the exit status of the outcome."""
    from bridge.cli import exit_status
    from bridge.errors import BridgeError
    from bridge.numbers import CODE_NAMES, CODES
    from bridge.segment.payload import message_number
    from bridge.segment.tool import Tool

    message = int(args.message) if args.message.isascii() and args.message.isdigit() else args.message
    code, response, sentence = 0, None, ''
    try:
        message_number(message)  # before a segment is looked for: whether there is one has no part in it
        services = None if args.services is None else _listed(args.services)
        if args.args_file is not None and args.args:
            raise ValueError('the arguments stand in --args-file, or here')
        arguments = command_arguments(args.args if args.args_file is None else [f'@{args.args_file}'])
        with Tool(args.segment, 'send') as client:
            try:
                response = client.call(message, *arguments, services=services, timeout=args.timeout)
            except KeyboardInterrupt as e:
                if request := getattr(e, 'request', 0):
                    print(f'iblbridge send: interrupted: {_left(client, request)}', file=sys.stderr)
                raise
            code = response['code']
            sentence = response['error'] and f'{CODE_NAMES.get(code, code)}: {response["error"]}'
    except BridgeError as e:
        # Of one that is pending: what happened, which is not always the time, and not what to do.
        said = f'{e.text.partition(". ")[0]}. {_LOST}' if e.code == CODES['IBLB_E_PENDING'] else e.text
        code, response, sentence = e.code, e.response, f'{e.name}: {said}'
    except (TypeError, ValueError) as e:
        code, sentence = CODES['IBLB_E_ARGUMENT'], f'{e}' if str(e).endswith('?') else f'{e}.'
    if response is not None:
        show(response, as_json=args.json)
    if sentence:
        print(f'iblbridge send: {sentence}', file=sys.stderr)
    return exit_status(code)


def _left(client: Client, request: int) -> str:
    """Give a command up, and return what becomes of it."""
    if client.cancel(request):
        return 'the command was withdrawn; nothing was sent'
    return 'the worker has the command, and carries it out; EXPSTATUS asks what the services do'


def show(response: dict[str, Any], *, as_json: bool) -> None:
    """Print a response body."""
    if as_json:
        print(json.dumps(response))
        return
    from bridge.cli.console import plain_console
    from bridge.numbers import LOCAL

    console = plain_console()
    if response['services']:
        if response['message'] == 'SERVICES':
            _show_services(console, response)
        else:
            console.print(response['message'])
            show_table(console, *rows(response))
    elif response['message'] in LOCAL and response['code'] >= 0:
        took = milliseconds(response['sent'], response['finished'])
        console.print(f'{response["message"]}: answered by the worker{took and f" in {took} ms"}')


def _show_services(console: Console, response: dict[str, Any]) -> None:
    if _configured(response):
        show_table(console, *services_rows(response))
    for line in (service_sentence(response), *listener_sentences(response)):
        console.print(line, soft_wrap=True)


def _listed(names: str) -> list[str]:
    """Return names that commas stand between; none if there is nothing."""
    return [name.strip() for name in names.split(',')] if names.strip() else []


def rows(response: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return a response body as the head of a table and one row per service; the last column is what it said."""
    head = ('service', 'ok', 'state', 'echo ms', 'reply ms', 'data or error')
    return head, [
        (
            service['name'],
            'yes' if service['ok'] else 'no',
            service['state'].replace('_', ' '),
            milliseconds(service['sent'], service['echoed']),
            milliseconds(service['sent'], service['answered']),
            service['error'] or (json.dumps(service['data']) if service['data'] else ''),
        )
        for service in response['services']
    ]


def services_rows(response: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the response to SERVICES likewise: one row per configured service."""
    from bridge.numbers import STATUS_NAMES

    found: list[Sequence[str]] = []
    for service in _configured(response):
        data = service['data']
        heard = f'{data["age_ms"] / 1000:.1f} s ago' if data.get('age_ms', -1) >= 0 else 'never'
        status = STATUS_NAMES.get(data.get('status', -1), '')
        address = data.get('uri', '').removeprefix('udp://')
        cells = (data.get('name', ''), address, data.get('health', ''), heard, status)
        found.append([str(cell) for cell in (*cells, data.get('exp_ref', ''), data.get('last_error', ''))])
    return ('service', 'address', 'health', 'heard', 'status', 'experiment', 'last error'), found


def _configured(response: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of services in a response to SERVICES; the others are listeners."""
    from bridge.segment.listeners import is_described

    return [service for service in response['services'] if not is_described(service['data'])]


def listener_sentences(response: dict[str, Any]) -> list[str]:
    """Return a line for each listener in a response to SERVICES."""
    from bridge.cli.lines import as_text
    from bridge.segment import listeners

    known = [entry['data'] for entry in response['services'] if listeners.is_described(entry['data'])]
    return [as_text(listeners.sentence(listeners.described(data))) for data in known]


def service_sentence(response: dict[str, Any]) -> str:
    """Return how many services there are and how they do."""
    from bridge.segment.words import services_sentence

    known = [service['data'] for service in _configured(response)]
    ages = [data['age_ms'] / 1000 if data.get('age_ms', -1) >= 0 else None for data in known]
    return services_sentence([(data.get('health') == 'down', age) for data, age in zip(known, ages, strict=True)])


def _narrowed(widths: list[int], least: list[int], room: int) -> list[int] | None:
    """Return the widths of columns that have room side by side, none less than its least; None if there are none."""
    if sum(least) > room:
        return None
    narrowed = list(widths)
    while sum(narrowed) > room:
        widest = max(range(len(narrowed)), key=lambda i: narrowed[i] - least[i])
        narrowed[widest] -= 1
    return narrowed


def show_table(console: Console, head: Sequence[str], found: Sequence[Sequence[str]]) -> None:
    """Print a table whose last column may be long; on a narrow console that stands below, and nothing is cut."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    below = console.width < WIDE
    # What is empty takes no room.
    shown = [i for i, name in enumerate(head[:-1]) if not below or i < 3 or any(row[i] for row in found)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1 if not below else 0, 0, 1))
    longest = [max(cell_len(row[i]) for row in (head, *found)) for i in shown]
    widths = _narrowed(longest, [len(head[i]) for i in shown], console.width - 2 * len(shown) + 1) if below else None
    for place, i in enumerate(shown):
        side: Literal['left', 'right'] = 'right' if head[i].endswith('ms') else 'left'
        table.add_column(head[i], justify=side, overflow='fold', width=widths[place] if widths else None)
    if not below:
        table.add_column(head[-1], overflow='fold')
    styles = {'yes': 'green', 'no': 'bold red', 'down': 'bold red'}
    for row in found:
        cells = [Text(row[i], styles.get(row[i], '') if i else '') for i in shown]
        table.add_row(*cells, *([] if below else [Text(row[-1])]))
    console.print(table)
    for row in found if below else ():
        if row[-1]:
            console.print(Text(f'  {row[0]}: {row[-1]}'), overflow='fold')
