"""``iblbridge reload``: have a worker read its files of services and settings again, and say what came of it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bridge.cli.console import ended_by_signals
from bridge.cli.words import duration, example


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'reload',
        help='have the worker read its files of services and settings again',
        description='Have the worker of a rig read its files of services and settings again. Services that are added, '
        'removed or at another address are taken over without a restart; the others are not touched, and commands that '
        'are under way end on the old list. What cannot be used is refused, and nothing is changed.',
        epilog=example('iblbridge reload rig0'),
    )
    parser.add_argument('segment', metavar='SEGMENT', help='the name of the rig, such as rig0')
    parser.add_argument('--check', action='store_true', help='only say what would change, or why it cannot')
    parser.add_argument(
        '--timeout',
        type=duration,
        default=30.0,
        metavar='TIME',
        help="how long to wait for the worker's word: 5s, 500ms, or a number of seconds (default: 30)",
    )
    parser.set_defaults(run=run)


@ended_by_signals()
def run(args: argparse.Namespace) -> int:
    """Ask the worker; 0 if it has done it, 2 if it refuses, 3 if there is none, 4 if nobody knows."""
    from bridge.changes import NOTHING
    from bridge.cli import exit_status
    from bridge.errors import BridgeError
    from bridge.numbers import CODES
    from bridge.segment.served import RELOAD
    from bridge.segment.tool import Tool

    try:
        with Tool(args.segment, 'reload') as client:
            response = client.call(RELOAD, *([True] if args.check else []), timeout=args.timeout)
    except BridgeError as e:
        said = f'{e.name}: {e.text}'
        if e.code == CODES['IBLB_E_ARGS']:
            said = f'{e.text} {"It would be refused" if args.check else "Nothing was changed"}.'
        elif e.code == CODES['IBLB_E_OUTCOME_UNKNOWN']:
            said = 'The worker ended meanwhile. The next one begins with what the files say.'
        elif e.code == CODES['IBLB_E_PENDING']:
            said = f'{e.text.partition(". ")[0]}. The log of the worker says what came of it.'
        print(f'iblbridge reload: {said}', file=sys.stderr)
        return exit_status(e.code)
    found = response['services'][0]['data']['said']
    print(f'{args.segment}: {"would change: " * args.check if found != NOTHING else ""}{found}')
    return 0
