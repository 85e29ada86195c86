"""``iblbridge top``: a rig at a glance: its services, its programs, what was commanded last and what happened.

It reads what the worker publishes, as `watch` does, and the segment's file, as `doctor` does: nothing is held up. Every
`ASK` it asks the worker SERVICES, which asks no service. `Rig` is what is known, `view` how it looks; both are values.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bridge.cli import lines
from bridge.cli.console import ended_by_signals
from bridge.cli.words import example
from bridge.numbers import EXITS, STATUS_NAMES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bridge.segment.client import Client
    from bridge.segment.inspection import Report

ASK = 10.0  # s between two questions to the worker
LOOK = 0.5  # s between two looks at the segment's file
LAST = 8  # commands and events that are shown
PATIENCE = 0.5  # s for the worker's answer, while others wait to be shown
PATIENCE_ONCE = 5.0  # s for it where nothing else is to be done
STYLES = {
    'down': 'bold red',
    'gone': 'bold red',
    'up': 'green',
    'RUNNING': 'bold green',
    'silent': 'yellow',
    'nobody': 'bold red',
}


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'top',
        help='show a rig at a glance, as it changes',
        description='Show the services and programs of a rig, the last commands and events, as they change, until '
        'Ctrl-C. Into a pipe or a file it shows services and programs, once: what was commanded before it was started '
        'is in the journal, and "iblbridge watch" shows it as it happens.',
        epilog=example(
            'iblbridge top rig0',
            'Exit status in a pipe: 0 a worker serves the rig, 1 it does not answer, 2 misuse, 3 no rig of that name '
            'or no worker.',
        ),
    )
    parser.add_argument('segment', metavar='SEGMENT', help='the name of the rig, such as rig0')
    parser.set_defaults(run=run)


@dataclass
class Known:
    """What is known of a service, as text; "" if it is not."""

    health: str = ''
    heard: str = ''
    status: str = ''
    experiment: str = ''
    trip: str = ''
    error: str = ''


@dataclass
class Rig:
    """What is known of a rig.

    Attributes
    ----------
    head : str
        One line about the worker.
    is_served : bool
        There is one.
    services : dict of str to Known
        By name, in configured order.
    programs : list of tuple of str
        Name, process, since when, commands without an answer.
    listeners : list of str
        A line about each: where it is, who serves it, what it does.
    last : deque of dict
        Outcomes and events, as entries of a journal, the oldest first.
    wrong : list of str
        What is to be done, in sentences.
    """

    name: str
    head: str = ''
    is_served: bool = True
    services: dict[str, Known] = field(default_factory=dict)
    programs: list[tuple[str, str, str, str]] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    last: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LAST))
    wrong: list[str] = field(default_factory=list)

    def look(self, report: Report) -> None:
        """Take in what the segment's file says."""
        from bridge.cli.doctor import process_name
        from bridge.segment.listeners import sentence
        from bridge.segment.words import HEARD_WITHIN, age, is_tool, worker_sentence

        alive = f'served by process {report.worker["pid"]} for {age(report.worker["age"])}' if report.worker else ''
        ended = worker_sentence(report.worker['pid']) if report.worker else 'no worker'
        self.head = alive if report.worker_alive else f'{ended}: commands wait for one, and expire'
        self.is_served = report.worker_alive
        self.wrong = [lines.as_text(sentence) for sentence in report.findings]
        before, self.services = self.services, {}
        for service in report.health:
            name = lines.as_text(service.name)
            known = self.services[name] = before.get(name, Known())
            heard = service.age is not None and service.age < HEARD_WITHIN
            known.health = 'down' if service.down else 'up' if heard else 'silent'
            if not report.worker_alive:  # nobody asks it: what was known may not hold
                known.health = ''
            known.heard = 'never' if service.age is None else f'{age(service.age)} ago'
        self.listeners = [lines.as_text(sentence(one)) for one in (report.listeners if report.worker_alive else ())]
        self.programs = [
            (
                lines.as_text(slot.client),
                process_name(slot.pid, slot.process) if slot.alive else 'closed' if slot.closed else 'gone',
                age(slot.age),
                str(slot.pending) if slot.pending >= 0 else '?',
            )
            for slot in report.slots
            if not is_tool(slot.client)
        ]

    def learn(self, response: dict[str, Any]) -> None:
        """Take in the worker's response to SERVICES."""
        for entry in response['services']:
            data = entry['data']
            known = self.services.get(lines.as_text(data.get('name')))
            if known is not None:
                trip = data.get('rtt_us', -1)
                known.status = STATUS_NAMES.get(data.get('status', -1), '')
                known.experiment = lines.as_text(data.get('exp_ref'))
                known.trip = f'{trip / 1000:.1f} ms' if isinstance(trip, int) and trip > 0 else ''
                known.error = lines.as_text(data.get('last_error'))

    def take(self, entry: dict[str, Any]) -> bool:
        """Take in what happened; True if the worker may know more by now."""
        if entry.get('event') == 'COMMAND' and entry.get('kind') in ('command', 'asked'):
            return False
        if entry.get('message') == 'SERVICES':  # a question to the worker, which asks no service
            return False
        self.last.append(entry)
        return True


@ended_by_signals()
def run(args: argparse.Namespace) -> int:
    """Show until Ctrl-C, or once; 3 if there is no segment, or, once, no worker, 1 if that does not answer."""
    from bridge.cli import exit_status
    from bridge.cli.console import plain_console
    from bridge.errors import BridgeError

    console, rig = plain_console(), Rig(args.segment)
    try:
        if not sys.stdout.isatty() or console.is_dumb_terminal:  # which cannot show a picture that changes
            answered = _once(rig)
            with console.capture() as capture:
                console.print(view(rig, console.width))
            for line in capture.get().splitlines():
                print(line.rstrip())
            print(f' commands as they happen: iblbridge watch {rig.name}; those before: the journal')
            return EXITS['NO_RIG' if not rig.is_served else 'FINE' if answered else 'SERVICE_FAILED']
        from rich.live import Live

        with Live(console=console, screen=True, auto_refresh=False) as live:
            _follow(rig, lambda: live.update(view(rig, console.width, datetime.now(), console.height), refresh=True))
    except BridgeError as e:
        print(f'iblbridge top: {e.name}: {e.text}', file=sys.stderr)
        return exit_status(e.code)
    return 0


def _once(rig: Rig) -> bool:
    """Take in what there is; False if no worker has answered."""
    from bridge.segment import inspection
    from bridge.segment.tool import Tool

    with Tool(rig.name, 'top', timeout=0.0) as client:
        rig.look(inspection.inspect(rig.name))
        return _ask(rig, client, PATIENCE_ONCE)


def _ask(rig: Rig, client: Client, patience: float = PATIENCE) -> bool:
    from bridge.errors import BridgeError

    try:
        rig.learn(client.call('SERVICES', timeout=patience))
    except BridgeError:  # no worker, or a busy one: what is known stays
        return False
    return True


def _follow(rig: Rig, show: Callable[[], object]) -> None:
    from bridge.cli import watch
    from bridge.errors import BridgeError
    from bridge.segment import inspection

    looked = asked = -ASK

    def idle(client: Client) -> None:
        nonlocal looked, asked
        now = time.monotonic()
        if now - looked < LOOK:
            return
        looked = now
        with suppress(BridgeError):  # just replaced: the next look finds another one
            rig.look(inspection.inspect(rig.name))
        if now - asked >= ASK and client.worker_state().alive:
            asked = now
            _ask(rig, client)
        show()

    for entry in watch.entries(rig.name, lambda line: None, idle, 'top'):
        if rig.take(entry):
            asked = min(asked, time.monotonic() - ASK + LOOK)  # soon, but once for all that happens now


def view(rig: Rig, width: int, now: datetime | None = None, height: int | None = None) -> RenderableType:
    """Return how a rig looks on a console of so many columns.

    Parameters
    ----------
    rig : Rig
        What is known.
    width : int
        Columns; 80 are enough.
    now : datetime, optional
        Shown at the top, so that one sees that it goes on.
    height : int, optional
        Lines; if what was commanded and what happened does not fit below the rest, the oldest is left out.
    """
    from rich.console import Console, Group
    from rich.text import Text

    clock = f'  {now:%H:%M:%S}' if now else ''
    parts: list[RenderableType] = [Text(f'{rig.name}: {rig.head}{clock}', 'bold' if rig.is_served else 'bold red')]
    services = [
        (name, one.health, one.heard, one.status, one.trip, one.experiment) for name, one in rig.services.items()
    ]
    parts.append(_table(('service', 'health', 'heard', 'status', 'echo', 'experiment'), services, 'no services'))
    parts += [Text(f'  ! {name}: {one.error}', 'red') for name, one in rig.services.items() if one.error]
    parts += [Text(f' {line}') for line in rig.listeners]
    parts.append(_table(('program', 'process', 'since', 'waiting'), rig.programs, 'no programs'))
    parts += [Text(f'  ! {sentence}', 'red') for sentence in rig.wrong]
    last = [Text(lines.line(entry, width, fold=True), lines.style(entry)) for entry in rig.last]
    if height is not None:
        console = Console(width=width)
        room = height - len(console.render_lines(Group(*parts)))
        while last and sum(text.plain.count('\n') + 1 for text in last) > room:
            del last[0]
    return Group(*parts, *last)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(f'\n {none}\n', 'dim')
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 1))
    for name in head:
        table.add_column(name, overflow='fold')
    for row in rows:
        table.add_row(*(Text(lines.as_text(cell), STYLES.get(cell, ''), overflow='fold') for cell in row))
    return table
