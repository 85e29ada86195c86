"""``iblbridge doctor``: what segments there are, who holds them, what is stale; and the removal of what nobody owns."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.doctor.loaded import loaded_by, version_of, version_text
from bridge.cli.words import example

if TYPE_CHECKING:
    from rich.table import Table

    from bridge.config import ServiceConfig
    from bridge.segment.inspection import Report


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'doctor',
        help='check this computer: rigs, workers, programs, libraries',
        description='Go the way of a command, with a line for each step: which libraries programs find and, on '
        "Windows, what firewall and power settings do; this user's rigs (segments) with their workers and programs, "
        'and what is stale or damaged; each service: its address, echo, answer and clock. What is to be done is '
        'marked with !.',
        epilog=example(
            'iblbridge doctor --services services.yaml',
            'Exit status: 0 all is well, 1 there is something to do, or one to --drop is not removed, 2 misuse.',
        ),
    )
    parser.add_argument(
        '--clean',
        action='store_true',
        help='remove the segments that nobody uses; kept is what a worker or program has open, even if that is '
        'stopped, and where the next worker has still to send or say something',
    )
    parser.add_argument(
        '--drop',
        metavar='SEGMENT',
        action='append',
        default=[],
        help='with --clean: remove this one even if it is only kept for the next worker; may be given several times',
    )
    parser.add_argument(
        '--program',
        metavar='FILE',
        help='a program that is to use the library: which one would it load, and do the bits fit?',
    )
    parser.add_argument(
        '--services',
        metavar='FILE',
        help='ask each service of this file what it is doing, which starts and ends nothing',
    )
    parser.add_argument(
        '--service',
        action='append',
        default=[],
        metavar='NAME=URI',
        help='ask this service, too; may be given several times',
    )
    parser.add_argument('--json', action='store_true', help='print it as JSON')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look, clean if told so, look again, show; 1 if something is (still) wrong."""
    from bridge.cli.doctor import probe, surroundings
    from bridge.config import ConfigError
    from bridge.errors import BridgeError, Misuse
    from bridge.segment import inspection

    try:
        if args.drop and not args.clean:
            raise ConfigError('--drop: says what --clean is not to keep; add --clean.')
        services, listen = _services(args)
        _check_program(args.program)
    except ConfigError as e:
        print(f'iblbridge doctor: {e}', file=sys.stderr)
        return 2
    removed: list[str] = []
    unusable: list[str] = []
    left: list[dict[str, str]] = []
    try:
        reports, ignored = inspection.survey()
        if args.clean:
            removed, left = clean(reports, args.drop)
            reports, ignored = inspection.survey()
    except Misuse as e:
        print(f'iblbridge doctor: {e.text}', file=sys.stderr)
        return 2
    except BridgeError as e:
        if e.name != 'IBLB_E_NO_SEGMENT':
            print(f'iblbridge doctor: {e.text}', file=sys.stderr)
            return 1
        reports, ignored = [], []
        above = Path(inspection.directory_name()).parent
        if not above.is_dir():
            unusable.append(
                f'The segment directory cannot be made: there is no folder {above}. Make it, or set IBLBRIDGE_DIR.'
            )
    around = surroundings.look(args.program)
    wrong, notes = surroundings.advice(around)
    wrong = unusable + wrong
    before, notes = notes, [*map(other_user, inspection.other_users())]
    notes += [note for report in reports for note in versions(report, around['library'])]
    if args.services is not None and not services:
        (notes if listen else wrong).append(f'{args.services}: no service in this file; nobody was asked')
    answers = probe.ask(services)
    for name, answer in answers.items():
        (wrong if answer.advice or not answer.ok else notes).append(f'service {probe.line(services[name], answer)}')
        if answer.hint and answer.hint not in wrong:
            wrong.append(answer.hint)
    healthy = not wrong and not any(report.findings for report in reports)
    result = {'directory': inspection.directory_name(), 'healthy': healthy, 'removed': removed, 'left': left}
    if args.json:
        around['findings'] = wrong
        segments = [as_json(report) for report in reports]
        asked = [{'name': name, 'uri': services[name].uri, **answer._asdict()} for name, answer in answers.items()]
        print(json.dumps(result | {'asked': asked, 'surroundings': around, 'ignored': ignored, 'segments': segments}))
    else:
        show(result, reports, ignored, wrong, notes, before=before)
    return 0 if healthy and not any(one['name'] in args.drop for one in left) else 1


def _services(args: argparse.Namespace) -> tuple[dict[str, ServiceConfig], Collection[str]]:
    """Return whom to ask, and where the worker is a service itself; ConfigError if that cannot be used."""
    from bridge import config

    rig = config.load_rig(args.services) if args.services is not None else config.RigConfig()
    services = config.merge_services(rig.services.values(), map(config.parse_service_option, args.service))
    config.check_addresses(services, args.services or '--service')
    return services, rig.listen


def _check_program(path: str | None) -> None:
    """Raise ConfigError if a file is no program: then there is nothing to find out."""
    from bridge.cli.doctor import program, surroundings
    from bridge.config import ConfigError

    if path is None:
        return
    try:
        kind = program.kind_of(Path(path))
    except OSError as e:
        raise ConfigError(f'--program: {path}: {e.strerror or e}.') from e
    if not kind or (kind != 'macos' and not surroundings.bits_of(Path(path))):
        what = 'Give the program that runs: for a script its interpreter, such as python'
        raise ConfigError(f'--program: {path} is not a program of Windows, Linux or macOS. {what}.')


def clean(reports: list[Report], drop: Collection[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """Remove what nobody owns and, but for `drop`, nobody needs; return the names of that, and what was left, why."""
    from bridge.errors import BridgeError
    from bridge.segment import inspection

    removed, left = [], []
    for report in reports:
        try:
            inspection.clean(report.name, drop=report.name in drop)
            removed.append(report.name)
        except BridgeError as e:
            if e.name != 'IBLB_E_NO_SEGMENT':  # else somebody was faster
                left.append({'name': report.name, 'why': e.text})
        except ValueError as e:
            left.append({'name': report.name, 'why': str(e)})
    known = {report.name for report in reports}
    left += [{'name': name, 'why': 'there is no such segment'} for name in drop if name not in known]
    return removed, left


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values."""
    return {
        **report._asdict(),
        'slots': [slot._asdict() for slot in report.slots],
        'services': list(report.services),
        'health': [service._asdict() for service in report.health],
        'listeners': [listener._asdict() for listener in report.listeners],
        'owed': [owed._asdict() for owed in report.owed],
        'masters': [one._asdict() for one in report.masters],
        'notes': report.notes,
        'findings': report.findings,
    }


def show(
    result: dict[str, Any],
    reports: list[Report],
    ignored: list[str],
    wrong: Sequence[str],
    notes: Sequence[str],
    *,
    before: Sequence[str] = (),
) -> None:
    """Print for people, along the way of a command: `before` is what concerns programs, `notes` what comes after."""
    from rich.console import Console

    from bridge.cli.console import PIPE_WIDTH
    from bridge.cli.lines import as_text
    from bridge.segment.listeners import sentence

    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for name in result['removed']:
        console.print(f'removed {name}')
    for row in result['left']:
        console.print(f'left {row["name"]}: {row["why"]}', soft_wrap=True)
    for note in before:
        console.print(note, soft_wrap=True)
    for report in reports:
        console.print(summary(report), soft_wrap=True)
        if report.slots:
            console.print(slot_table(report))
        for listener in report.listeners if report.worker_alive else ():
            console.print(f'  {as_text(sentence(listener))}', soft_wrap=True)
        for note in report.notes:
            console.print(f'  {as_text(note)}', soft_wrap=True)
        for finding in report.findings:
            console.print(f'  ! {finding}', soft_wrap=True)
    if ignored:
        console.print(f'not looked at: {", ".join(map(repr, ignored))}', soft_wrap=True)
    for note in notes:
        console.print(note, soft_wrap=True)
    for finding in wrong:
        console.print(f'  ! {finding}', soft_wrap=True)
    what = 'all is well' if result['healthy'] else 'there is something to do: see the lines with "!"'
    console.print(
        f'{result["directory"]}: {len(reports) or "no"} segment{"s"[len(reports) == 1 :]}; {what}', soft_wrap=True
    )


def versions(report: Report, own: Mapping[str, Any]) -> list[str]:
    """Return what to know of the libraries that those at a segment have loaded.

    Parameters
    ----------
    report : Report
        The segment.
    own : mapping
        This installation's library, as `bridge.cli.doctor.surroundings.look` returns it.
    """
    found = []
    if report.library and not report.code and version_text(report.library) != own['version']:
        found.append(
            f'{report.name} was made by version {version_text(report.library)}, this is {own["version"]}: '
            'they work together, as their layout is the same.'
        )
    for slot in report.slots if report.boot == 'this' else ():
        for path, is_gone in loaded_by(slot.pid).items() if slot.alive else ():
            if is_gone:
                said = ', which was replaced or removed since: until it is started anew, it goes on with that'
            elif path == os.path.realpath(own['path']):
                continue
            else:
                said = f', version {its}' if (its := version_of(path)) else ''
            found.append(f'{report.name}: {slot.client} has loaded {path}{said}')
    return found


def other_user(directory: Path) -> str:
    """Return what to know of another user's segments."""
    share = 'an IBLBRIDGE_DIR that a group can write to (bridge/README.md: Several users on one PC)'
    return f'{directory}: segments of another user; your programs find one only if both users have {share}'


def summary(report: Report) -> str:
    """Return one line about a file."""
    from bridge.segment.words import age, services_sentence, worker_sentence

    parts = [f'{report.name}: {report.bytes / 1e6:.1f} MB']
    if report.kind != 'segment':
        parts.append(report.kind)
    worker = report.worker
    if report.size:
        process = process_name(worker['pid'], worker['process'])
        if report.worker_alive:
            parts.append(f'served by process {process} for {age(worker["age"])}')
            said = services_sentence([(service.down, service.age) for service in report.health])
            parts.append(f'{said} ({", ".join(report.services)})' if report.services else said)
        else:
            parts.append(worker_sentence(worker['pid']))
        parts.append(f'slots: {len(report.slots)} of {report.size} taken')
        parts.append(f'version {version_text(report.library)}')
    if report.layout:
        parts.append(f'layout {report.layout}')
    if report.boot == 'another':
        parts.append('of another boot')
    return ', '.join(parts)


def slot_table(report: Report) -> Table:
    """Return the slots that are not free: one row each."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from bridge.cli.lines import as_text
    from bridge.segment.words import age

    result = Table('slot', 'client', 'process', 'since', 'pending', 'state', box=box.SIMPLE_HEAD)
    for slot in report.slots:
        owner = 'alive' if slot.alive else 'closed' if slot.closed else 'gone'
        state = owner if slot.state == 'claimed' else f'{slot.state}, {owner}'
        pending = str(slot.pending) if slot.pending >= 0 else '?'
        result.add_row(
            *map(
                Text,
                (
                    str(slot.number),
                    as_text(slot.client),
                    process_name(slot.pid, slot.process),
                    age(slot.age),
                    pending,
                    state,
                ),
            )
        )
    return result


def process_name(pid: int, name: str) -> str:
    """Return "4242 (python3)"."""
    return f'{pid} ({name})' if name else str(pid)
