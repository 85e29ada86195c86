"""What is asked of the benchmark: whether it makes sense, before anything is measured."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

QUICK, FULL = (5, 40), (25, 200)  # rounds, commands in each


def refusal(args: argparse.Namespace) -> str:
    """Return why this cannot be done, in a sentence; "" if it can."""
    if args.ways:
        given = [name for name in ('full', 'markdown', 'json', 'plot', 'rounds') if getattr(args, name) is not None]
        return f'--{given[0]}: not with --ways, which prints one table and writes no file' if given else ''
    if args.services is not None:
        return '--services: only with --ways; the table has rows for 1, 2 and 8 services'
    rounds, count = amount(args)
    if not (1 <= rounds <= 1000 and 1 <= count <= 2000):
        return '--rounds takes numbers from 1 to 1000, --commands from 1 to 2000'
    from bridge.cli.bench import plot

    for option, name in (('--json', args.json), ('--plot', args.plot)):
        if name is not None and (why := unwritable(name)):
            return f'{option}: {why}'
    why = '' if args.plot is None else plot.refusal(args.plot)
    return f'--plot: {why}' if why else ''


def amount(args: argparse.Namespace) -> tuple[int, int]:
    """Return how many rounds, and how many commands in each."""
    rounds, count = FULL if args.full else QUICK
    return rounds if args.rounds is None else args.rounds, count if args.commands is None else args.commands


def unwritable(name: str) -> str:
    """Return why a file cannot be written, "" if nothing is known against it. Writes nothing."""
    path = Path(name)
    if not name or path.is_dir():
        return f'{name or repr(name)} is no file; name one'
    if not path.parent.is_dir():
        return f'{name}: there is no folder {path.parent}'
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f'{name}: it may not be written'
    return ''
