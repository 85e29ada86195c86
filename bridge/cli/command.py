"""What ``iblbridge`` does once its modules are read: the parser of the whole command, and what becomes of output."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bridge.cli.console import give_output_up
from bridge.cli.words import Parser, example
from bridge.numbers import EXITS


def run(argv: Sequence[str] | None) -> int:
    """Do what was asked, and return the exit status; see `bridge.cli.main`."""
    if sys.stdout is None:  # it was closed, or this is Windows' pythonw.exe: nobody wants to read us
        sys.stdout = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, 'reconfigure', None):
            # A console that cannot show a character must not end us. What other programs read is UTF-8, as the log is;
            # Windows would take its ANSI code page.
            own = {'encoding': 'utf-8'} if sys.platform == 'win32' and not stream.isatty() else {}
            reconfigure(errors='backslashreplace', **own)
    try:
        return _run(argv)
    except BrokenPipeError:  # whoever read our output has gone
        give_output_up()
        return 1
    except OSError as e:  # files say theirs by name: what has none is the output
        give_output_up()
        what = f'{e.filename}: ' if e.filename else 'the output cannot be written: '
        with suppress(OSError):  # the disk is full for this, too
            print(f'iblbridge: {what}{e.strerror or e}', file=sys.stderr)
        return EXITS['MISUSE']
    finally:
        if colorama := sys.modules.get('colorama.initialise'):  # colorlog's, on Windows
            atexit.unregister(colorama.reset_all)  # it would write to an output that may be closed, or to a full disk


def _run(argv: Sequence[str] | None) -> int:
    """Do what was asked and return the exit status, once all that was printed is written."""
    try:
        whole = parser()
        if not (sys.argv[1:] if argv is None else argv):  # who types the name alone wants to know what there is
            whole.print_help(sys.stderr)
            return EXITS['MISUSE']
        args = whole.parse_args(argv)
        status = int(args.run(args))
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0
    sys.stdout.flush()
    return status


class _Version(argparse.Action):
    """Prints the version; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import bridge

        print(f'{parser.prog} {bridge.__version__}')
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    from bridge.cli import (
        bench,
        demo,
        doctor,
        init,
        install,
        journal,
        kit,
        page,
        reload,
        send,
        serve,
        simulate,
        top,
        watch,
    )

    whole = Parser(
        prog='iblbridge',
        description='Lets any program on the rig PC command the remote services of an experiment: cameras, ephys and '
        'others. "iblbridge help COMMAND" tells more of a command.',
        epilog=example('iblbridge demo', 'That tries all of it on this computer.'),
    )
    whole.add_argument('--version', action=_Version, nargs=0, help="show this package's version")
    subparsers = whole.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for module in (demo, init, serve, reload, send, watch, top, page, simulate, doctor, journal, install, kit, bench):
        module.add_parser(subparsers)
    _add_help(whole, subparsers)
    return whole


def _add_help(parser: Parser, subparsers: Any) -> None:
    """Describe ``help``, which shows what ``--help`` does."""
    helper = subparsers.add_parser(
        'help',
        help='show this, or what a command does',
        description='Show what the commands are, or what one of them does.',
        epilog=example('iblbridge help send'),
    )
    helper.add_argument('command', nargs='?', metavar='COMMAND', choices=list(subparsers.choices), help='such as send')

    def show(args: argparse.Namespace) -> int:
        subparsers.choices.get(args.command, parser).print_help()
        return 0

    helper.set_defaults(run=show)
