"""``iblbridge bench``: how fast iblbridge is on this computer, beside what a lab would write instead.

One table: each row is a piece of work, ours beside its `peers`, which take turns in shuffled rounds, so that whatever
else the computer does meets all of them. What is shown is the median of the rounds' own p50 and p99; a ratio is the
median of the ratios inside a round. The program that commands is a C program, as users have (``caller.c``).

`ways` is the older comparison of four ways to have a command carried out, from Python.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.words import example

if TYPE_CHECKING:
    from bridge.cli.bench.ending import Ending


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'bench',
        help='measure how long a command takes on this computer',
        description='Measure how long commands, notifications and the worker itself take on this computer, beside what '
        'a lab would write instead. Takes less than a minute. It needs Linux or macOS and a C compiler; ZeroMQ to '
        "stand beside, and what draws the picture, come with pip install 'iblbridge[bench]'.",
        epilog=example(
            'iblbridge bench --markdown',
            'More exact: iblbridge bench --full. Exit status: 0 all was measured, but for what stands beside ZeroMQ '
            'without pyzmq; 1 something could not be measured; 2 misuse; 128 and its number after a signal.',
        ),
    )
    parser.add_argument('--full', action='store_true', default=None, help='take up to ten minutes, for figures to keep')
    parser.add_argument('--markdown', action='store_true', default=None, help='print the table as Markdown')
    parser.add_argument('--json', metavar='FILE', help='write the table to this file, too')
    parser.add_argument('--plot', metavar='FILE.png', help='draw our times beside those of the others (matplotlib)')
    parser.add_argument('--rounds', type=int, metavar='N', help='how many rounds (default: 5; with --full 25)')
    parser.add_argument('--ways', action='store_true', help='compare four ways to command, from Python, instead')
    parser.add_argument('--services', metavar='N,N', help='with --ways: how many services (default: 1,2,4,8)')
    parser.add_argument(
        '--commands',
        type=int,
        metavar='N',
        help='commands in a round (default: 40; with --full 200), or, with --ways, in all (default: 500)',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 if something could not be measured, 2 for what makes no sense or cannot be written.

    128 and the signal's number if one came; then no process and no file is left.
    """
    from bridge.cli.bench.ending import await_children, tidy

    with tidy() as (folder, ending):
        try:
            ending.arm()
            return _run(args, folder, ending)
        except KeyboardInterrupt:
            pass  # with it go its frames, and the pipes in them
        finally:
            ending.armed = False
        await_children()
    print(f'iblbridge bench: stopped by {signal.Signals(ending.signal).name}', file=sys.stderr)
    return 128 + ending.signal


def _run(args: argparse.Namespace, folder: Path, ending: Ending) -> int:
    from bridge.cli.bench import asked, peers, plot, table, ways

    if why := asked.refusal(args):
        print(f'iblbridge bench: {why}', file=sys.stderr)
        return 2
    if args.ways:
        args.commands = 500 if args.commands is None else args.commands
        args.services = '1,2,4,8' if args.services is None else args.services
        return ways.run(args, str(folder))
    machine = table.machine() | {'missing': peers.missing()}
    rows = _measure(folder, *asked.amount(args), ending)
    machine['load_after'] = table.load()
    print(table.markdown(machine, rows) if args.markdown else table.plain(machine, rows))
    if args.json:
        report = {'machine': machine, 'rows': [row.as_dict() for row in rows]}
        Path(args.json).write_text(json.dumps(report, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    if args.plot:
        plot.draw(machine, rows, args.plot)
    return int(any(row.failed for row in rows))


def _measure(folder: Path, rounds: int, count: int, ending: Ending) -> list[Any]:
    """Return the rows; what cannot be measured is a row that says why."""
    from bridge.cli.bench.parts import Bench

    def progress(title: str) -> None:
        ending.arm()  # what Python calls on its own, such as __del__, swallows what a signal raises
        _show(title)

    try:
        return list(Bench(folder, rounds, count, progress).rows())
    finally:
        _show('')


def _show(title: str) -> None:
    """Show what is being measured, in place of what was; nothing for "". Only people see it."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f'\r{title[:width]:<{width}}\r', end='', file=sys.stderr, flush=True)
