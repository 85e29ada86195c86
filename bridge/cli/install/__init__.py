"""``iblbridge install``, ``uninstall`` and ``status``: a worker that starts with the computer, and again after a crash.

On Linux it is a unit of the user's systemd, on Windows a task that starts when the user logs on. Both start the very
``iblbridge serve`` that can be typed, with a log in a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bridge.cli import page, serve
from bridge.cli.words import example, segment_name

FILES = ('services', 'settings', 'journal')
LEFT_OUT = ('until_eof', 'log')
VARIABLES = ('IBLBRIDGE_DIR', 'IBLBRIDGE_WAIT')


def _manager() -> ModuleType:
    """Return what starts programs by themselves on this system; loaded only for who asks."""
    if sys.platform == 'win32':
        from bridge.cli.install import task_scheduler

        return task_scheduler
    from bridge.cli.install import systemd

    return systemd


def add_parser(subparsers: Any) -> None:
    """Describe the subcommands."""
    parser = subparsers.add_parser(
        'install',
        help='have a worker started with the computer, and after a crash',
        description="Have a rig's worker started now, whenever you log in, and again after a crash: on Linux by "
        'systemd, on Windows by a task. The other options are those of "iblbridge serve".',
        epilog=example('iblbridge install --segment rig0 --services services.yaml --journal rig0.jsonl'),
    )
    serve.add_options(parser, leave_out=LEFT_OUT)
    parser.set_defaults(run=install)
    for name, run, what in (
        ('uninstall', uninstall, 'have a worker no longer started by itself'),
        ('status', status, 'show the workers that are installed, how they are, and where their logs are'),
    ):
        parser = subparsers.add_parser(
            name, help=what, description=f'{what[0].upper()}{what[1:]}.', epilog=example(f'iblbridge {name} rig0')
        )
        parser.add_argument(
            'segment', metavar='SEGMENT', nargs='?' if name == 'status' else None, help="the rig's name, such as rig0"
        )
        parser.set_defaults(run=run)


def install(args: argparse.Namespace) -> int:
    """Install and start; 2 if the configuration is wrong, 3 if the system does not take it."""
    from bridge import config

    try:
        if sys.platform == 'darwin':
            raise config.ConfigError('is for Linux and Windows; on macOS, write a launchd agent that runs serve.')
        segment_name(args.segment)
        rig = serve.configured(args, {})  # of our environment the worker will have `VARIABLES` only
        if not (rig.services or rig.listen):
            raise config.ConfigError('nobody is to be served; add --services FILE, --service NAME=URI or --listen.')
        if rig.http and not rig.http.token and os.environ.get(page.TOKEN):
            raise config.ConfigError(
                f'{page.TOKEN}: a worker that starts by itself may not have it; write the token into the file of '
                'services or settings: _rig: {http: {token: ...}}.'
            )
        log_place(args.segment).parent.mkdir(parents=True, exist_ok=True)
        left = _manager().install(args.segment, words(args), environment())
    except (config.ConfigError, argparse.ArgumentTypeError) as e:
        print(f'iblbridge install: {e}', file=sys.stderr)
        return 2
    if left:
        print(f'iblbridge install: {left}', file=sys.stderr)
        return 3
    print(f'{args.segment} is served from now on, and after each login. Its log: {log_place(args.segment)}')
    if sys.platform != 'win32' and _manager().lingers() is False:
        print('It ends when you log out. To let it run without a login, from the start of the computer on, type:')
        print('    loginctl enable-linger')
    if args.journal and rig.journal_rotate is None:
        print('Its journal grows for ever. To begin a new file each day, install it again with: --journal-rotate day')
    print(f'iblbridge status {args.segment} says how it is; iblbridge uninstall {args.segment} ends it.')
    return 0


def uninstall(args: argparse.Namespace) -> int:
    """Stop and remove; 3 if there is no such rig, or the system does not do it."""
    if args.segment not in _manager().segments():
        there = ', '.join(_manager().segments()) or 'none'
        print(f'iblbridge uninstall: {args.segment!r} is not installed; there are: {there}', file=sys.stderr)
        return 3
    left = _manager().uninstall(args.segment)
    if left:
        print(f'iblbridge uninstall: {left}', file=sys.stderr)
        return 3
    print(f'{args.segment} is no longer started by itself. Its log stays: {log_place(args.segment)}')
    if sys.platform == 'win32':
        print('The worker that runs goes on until you log off, or end it.')
    return 0


def status(args: argparse.Namespace) -> int:
    """Show what is installed; 3 if that is nothing, or not what was asked for."""
    from bridge.cli.doctor import summary
    from bridge.errors import BridgeError
    from bridge.segment import inspection

    installed = [name for name in _manager().segments() if args.segment in (None, name)]
    if not installed:
        said = f'{args.segment} is not installed' if args.segment else 'no worker is installed'
        print(f'iblbridge status: {said}; iblbridge install does that', file=sys.stderr)
        return 3
    try:
        reports = {report.name: report for report in inspection.survey()[0]}
    except BridgeError:  # there is no directory yet
        reports = {}
    for name in installed:
        print(f'{name}: {_manager().state(name)}')
        print(f'  {summary(reports[name])}' if name in reports else '  it has no segment: its worker does not run')
        print(f'  log: {log_place(name)}')
    return 0


def words(args: argparse.Namespace) -> list[str]:
    """Return the command that serves the rig, complete: it is started elsewhere, by somebody else."""
    program = Path(sys.executable)
    if sys.platform == 'win32' and (quiet := program.with_name('pythonw.exe')).exists():
        program = quiet  # without a console that somebody might close
    return [str(program), '-m', 'bridge', 'serve', *serve_words(args), '--log', str(log_place(args.segment))]


def serve_words(args: argparse.Namespace) -> list[str]:
    """Return the options of serve that were given, with the paths of files complete."""
    parser = argparse.ArgumentParser(add_help=False)
    found: list[str] = []
    for action in serve.add_options(parser, leave_out=LEFT_OUT):
        value = getattr(args, action.dest)
        option = action.option_strings[-1]
        if value == action.default:
            continue
        if value is True:
            found.append(option)
            continue
        for one in value if isinstance(value, list) else [value]:
            found += [option, os.path.abspath(one) if action.dest in FILES else str(one)]
    return found


def environment(variables: Sequence[str] = VARIABLES) -> dict[str, str]:
    """Return what the worker has to find in its environment, as it is in ours."""
    return {name: os.environ[name] for name in variables if os.environ.get(name)}


def log_place(segment: str) -> Path:
    """Return where the log of an installed worker is."""
    if sys.platform == 'win32':
        base = Path(os.environ.get('LOCALAPPDATA') or Path.home() / 'AppData' / 'Local') / 'iblbridge-logs'
    else:
        base = Path(os.environ.get('XDG_STATE_HOME') or Path.home() / '.local' / 'state') / 'iblbridge'
    return base / f'{segment}.log'
