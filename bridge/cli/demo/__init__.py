"""``iblbridge demo``: a whole experiment on this computer, with a C program as the one who commands.

``--both`` adds the other direction, see `bridge.cli.demo.both`.

Two simulated services and a worker run as processes of their own; the compiled tool ``iblb`` is run once per command,
from EXPINFO to EXPCLEANUP. Everything said here about the outcome is taken from what that program printed. `judge` is
a function of values and decides about verdict and exit status; processes and clean-up are in `children`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bridge.cli.words import example, segment_name

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.cli.demo.children import Halt, Rig

SERVICES = ('cameras', 'ephys')
REFERENCE = '2026-01-01_1_subject'
PLAN: tuple[tuple[str, list[Any]], ...] = (
    ('EXPINFO', ['CONNECTED', {'exp_ref': REFERENCE}]),
    ('EXPINIT', [{'exp_ref': REFERENCE}]),
    ('EXPSTART', [REFERENCE]),
    ('EXPSTATUS', []),
    ('EXPEND', []),
    ('EXPCLEANUP', []),
)
LAST_HEARD = 'EXPSTART'  # what a service that goes silent still answers
PARTIAL = -8070
CALL_TIMEOUT = 12.0  # s
WIDTHS = (12, 24, 24, 11)  # columns of the table: command, each service, whole command
NARROW = (12, 14, 14, 11)  # the same without the services' times


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'demo',
        help='try it: a C program runs an experiment on two simulated services',
        description='Start two simulated services and a worker, and let a C program (iblb) run an experiment on them. '
        'Nothing stays behind. Exit status: 0 if all went as it should.',
        epilog=example('iblbridge demo --fail cameras'),
    )
    parser.add_argument(
        '--fail', choices=SERVICES, help='let this service go silent half-way, and see what the C program is told'
    )
    parser.add_argument(
        '--both',
        action='store_true',
        help='then let a stock iblutil master command a C program, which is the camera',
    )
    parser.add_argument(
        '--segment',
        type=segment_name,
        metavar='NAME',
        default=f'demo-{os.getpid()}',
        help='name by which programs open the rig (default: demo-<pid>)',
    )
    parser.add_argument(
        '--stay',
        action='store_true',
        help='send nothing, but keep services and worker up for a program of your own, until Ctrl-C; with --both the '
        'worker also listens, for a program that is a camera and for its masters',
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Record:
    """What one run of the C program brought.

    Parameters
    ----------
    message : str
        The command.
    exit_status : int
        Of the program.
    body : dict or None
        The response that it printed, if it was one.
    sentence : str
        What it wrote on standard error.
    """

    message: str
    exit_status: int
    body: dict[str, Any] | None
    sentence: str

    @property
    def code(self) -> int | None:
        """The status that the C call returned, if there was a response."""
        return self.body['code'] if self.body else None

    def service(self, name: str) -> dict[str, Any]:
        """Return the entry of a service, {} if there is none."""
        return next((s for s in (self.body or {}).get('services', ()) if s['name'] == name), {})


def judge(records: Sequence[Record], silent: str | None) -> list[str]:
    """Return what is not as it should be, one sentence each; nothing if all is well.

    Parameters
    ----------
    records : sequence of Record
        One per command of the plan, in order.
    silent : str or None
        The service that goes silent after `LAST_HEARD`.
    """
    wrong = []
    if [r.message for r in records] != [message for message, _ in PLAN]:
        wrong.append(f'not all commands were run, only {", ".join(r.message for r in records) or "none"}.')
    failing = None
    for record in records:
        status, code = (1, PARTIAL) if failing else (0, 0)
        if (record.exit_status, record.code) != (status, code):
            told = f'{ended(record.exit_status)} and code {record.code} instead of {status} and {code}'
            wrong.append(f'{record.message}: {told}. {record.sentence}'.strip())
        for name in SERVICES:
            entry = record.service(name)
            answered = entry.get('ok') is True and entry.get('state') == 'answered'
            if name != failing and not answered:
                wrong.append(f'{record.message}: {name} did not answer. {entry.get("error", "")}'.strip())
            elif name == failing and (
                entry.get('ok') is not False or entry.get('state') == 'answered' or not entry.get('error')
            ):
                wrong.append(f'{record.message}: {name} was silent, but the C program was not told so.')
        if failing and failing not in record.sentence:
            wrong.append(
                f'{record.message}: the sentence does not name {failing}: {record.sentence or "there is none"}'
            )
        if record.message == LAST_HEARD:
            failing = silent
    return wrong


def cell(entry: dict[str, Any]) -> str:
    """Return what a service did, for the table: the state it replied, and the time from sent to answered."""
    from bridge.cli.lines import milliseconds
    from bridge.services.simulate import State

    if not entry:
        return '-'
    if not entry['ok']:
        return str(entry['state']).replace('_', ' ').upper()
    value = entry['data'].get('value', entry['data'])
    parts = value if isinstance(value, list) else [value]
    status = next((part['status'] for part in parts if isinstance(part, dict) and 'status' in part), None)
    said = State(status).name if status in list(State) else str(entry['state'])
    return f'{said:<12}{milliseconds(entry["sent"], entry["answered"]):>7} ms'


def run(args: argparse.Namespace) -> int:
    """Run the demo: 0 as expected, 1 not as expected, 3 could not start, 128 + signal number if one came."""
    from rich.console import Console

    from bridge import native
    from bridge.cli.console import on_stop_signals
    from bridge.cli.demo import both as demo_both
    from bridge.cli.demo.children import DemoError, Halt, Interrupted, Rig

    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    tool = native.IBLB
    halt = Halt()
    on_stop_signals(halt.set)
    services = {name: ['--deaf-after', LAST_HEARD] if name == args.fail else [] for name in SERVICES}
    rig = Rig(args.segment, services, halt, demo_both.WORKER_OPTIONS if args.both else ())
    left: list[str] = []
    wrong: list[str] = []
    try:
        with ExitStack() as cleanup:
            cleanup.callback(lambda: left.extend(rig.end()))
            with console.status('starting two services and a worker') if console.is_terminal else ExitStack():
                rig.start()
            introduce(console, rig, tool, args)
            if args.stay:
                stay(console, rig, halt, both=args.both)
            records = experiment(console, tool, args.segment, halt)
            if args.fail:  # before the other direction, whose C program is another one
                explain(console, records, args.fail)
            if args.both:
                wrong = demo_both.show_both(console, tool, args.segment, PLAN, halt)
    except Interrupted as e:
        console.print(f'\nStopped by {e}. {" ".join(left) or "All processes are gone, and so is the segment."}')
        return 128 + getattr(signal, str(e), 0)
    except DemoError as e:
        console.print(f'The demo has ended: {e}', style='bold red')
        return 3
    wrong = judge(records, args.fail) + wrong + left
    conclude(console, wrong, args.fail, both=args.both)
    return 1 if wrong else 0


def experiment(console: Console, tool: Path, segment: str, halt: Halt) -> list[Record]:
    """Run the C program once per command, printing each row of the table when its command is done."""
    from bridge.cli.demo.children import run_tool

    row(console, ('command', *SERVICES, 'in all'), 'bold')
    console.print('  ' + '-' * sum(widths(console)), style='dim')
    records = []
    for message, arguments in PLAN:
        halt.check()
        words = [
            str(tool),
            'call',
            segment,
            message,
            json.dumps(arguments),
            '--timeout',
            f'{CALL_TIMEOUT * 1000:.0f}',
            '--client',
            'demo',
        ]
        if console.is_terminal:
            console.print(f'  {message} ...', style='dim', end='\r')
        exit_status, out, err = run_tool(words, CALL_TIMEOUT + 3.0, halt)
        halt.check()  # Ctrl-C reaches the C program too: that it was ended is no outcome
        record = Record(message, exit_status, _response(out), ' '.join(err.split()))
        records.append(record)
        show(console, record)
    return records


def show(console: Console, record: Record) -> None:
    """Print the row of one command, or what the C program wrote if it got no response."""
    from bridge.cli.lines import milliseconds

    if record.body is None:
        console.print(
            f'  {record.message:<{WIDTHS[0]}}{ended(record.exit_status)}. {record.sentence}'.rstrip(), style='bold red'
        )
        return
    took = milliseconds(record.body['sent'], record.body['finished'])
    style = 'green' if record.code == 0 else 'yellow'
    row(console, (record.message, *(cell(record.service(name)) for name in SERVICES), f'{took:>7} ms'), style)


def widths(console: Console) -> tuple[int, ...]:
    """Return the widths of the table's columns that fit the console."""
    return WIDTHS if console.width > sum(WIDTHS) + 2 else NARROW


def ended(exit_status: int) -> str:
    """Return how the C program ended, in words: negative numbers are signals.

    Examples
    --------
    >>> ended(3)
    'the C program ended with exit status 3'
    """
    if exit_status >= 0:
        return f'the C program ended with exit status {exit_status}'
    name = next((s.name for s in signal.Signals if s == -exit_status), f'signal {-exit_status}')
    return f'the C program was ended by {name}'


def row(console: Console, cells: Sequence[str], style: str) -> None:
    """Print one line of the table."""
    wide = widths(console)
    fitted = [
        f'{text[: width - 1] if wide is NARROW else text:<{width}}' for text, width in zip(cells, wide, strict=True)
    ]
    console.print('  ' + ''.join(fitted).rstrip(), style=style)


def introduce(console: Console, rig: Rig, tool: Path, args: argparse.Namespace) -> None:
    """Print what runs where."""
    from bridge.segment import inspection

    fail = args.fail
    lines = [('segment', f'{args.segment}: {rig.children["worker"].ready[1]}')]
    if not args.stay:
        console.print('A C program runs an experiment on two services, through shared memory.\n', style='bold')
        lines.insert(0, ('C program', f'{tool}, one run per command'))
    for child in rig.children.values():
        uri = '' if child.name == 'worker' else f', {child.ready[1]}'
        silence = f', goes silent after {LAST_HEARD}' if child.name == fail else ''
        lines.append((child.name, f'pid {child.process.pid}{uri}{silence}'))
    if args.both and args.stay:
        lines += [
            ('listener', f'{one.name} at {one.uri}, for masters') for one in inspection.inspect(rig.segment).listeners
        ]
    for what, where in lines:
        console.print(f'  {what:<{WIDTHS[0]}}{where}')
    if fail:
        about = 'The worker gives a silent service 1 s, and once, with the next command, 10 s to recover.'
        console.print(f'\n  {about}', style='dim')
    console.print()


def stay(console: Console, rig: Rig, halt: Halt, *, both: bool) -> NoReturn:
    """Keep the rig up until a signal comes; raises Interrupted then, and DemoError if a process ends before."""
    from bridge.cli.console import own_name, tool_name
    from bridge.cli.demo.both import LISTENER
    from bridge.cli.demo.children import TICK, DemoError

    console.print(f'The rig is up: open the segment {rig.segment!r} in your program. Ctrl-C ends it.', style='bold')
    console.print(f'next, in another shell: {own_name()} send {rig.segment} {LAST_HEARD} {REFERENCE}', style='dim')
    if both:
        console.print(f'and a C program as the camera: {tool_name()} camera {rig.segment} {LISTENER}', style='dim')
    while True:
        halt.check()
        for child in rig.children.values():
            if child.process.poll() is not None:
                raise DemoError(child.report())
        time.sleep(TICK)


def explain(console: Console, records: Sequence[Record], silent: str) -> None:
    """Print exactly what the C program was told when the service went silent."""
    told = next((r for r in records if r.body and r.service(silent).get('ok') is False), None)
    if told is None:
        return
    from bridge.numbers import CODE_NAMES

    console.print(f'\nWhat the C program was told at {told.message}:\n', style='bold')
    lines = (
        ('status', f'{told.code} {CODE_NAMES.get(told.code or 0)}'),
        ('sentence', told.sentence),
        (silent, json.dumps(told.service(silent))),
    )
    for what, text in lines:
        console.print(f'  {what:<{WIDTHS[0]}}{text}')


def conclude(console: Console, wrong: Sequence[str], fail: str | None, *, both: bool = False) -> None:
    """Print the verdict."""
    from bridge.cli.console import own_name, tool_name

    console.print()
    if wrong:
        console.print('Not as it should be:', style='bold red')
        for sentence in wrong:
            console.print(f'  {sentence}', style='red')
        return
    if fail:
        other = next(name for name in SERVICES if name != fail)
        told = f'from EXPSTATUS on, the C program was told that {fail} does not answer'
        verdict = f'As expected: {told}, and {other} was served throughout. No process or segment is left.'
        hint = f'{tool_name()} codes, which says what to do at each status'
    else:
        verdict = f'All {len(PLAN)} commands were answered by both services. No process or segment is left.'
        me = own_name()
        hint = f'{me} demo --fail cameras, then {me} demo --stay --segment rig0 and a program of your own'
        if both:
            verdict = verdict.replace(' No process', ' The C program did what its master asked. No process')
    console.print(verdict, style='bold green')
    console.print(f'next: {hint}', style='dim')


def _response(out: str) -> dict[str, Any] | None:
    """Return the response body that the C program printed, None if it printed none."""
    try:
        body = json.loads(out)
    except ValueError:
        return None
    return body if isinstance(body, dict) and 'services' in body else None
