"""``iblbridge kit``: a folder with all that a program of some kind needs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bridge.cli.words import example


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    from bridge.kit import KITS

    parser = subparsers.add_parser(
        'kit',
        help='write a folder with all that a program in your language needs',
        usage='iblbridge kit --LANGUAGE DIR [--force]',
        description='Write a folder with all that a program in one language needs: the library for this system and '
        'for Windows (but for Python, whose package has it), the header, a small client, an example that runs, and a '
        'guide, README.md, to begin with. Copy the folder to where the program runs.',
        epilog=example('iblbridge kit --matlab matlab-kit'),
    )
    parser.add_argument('directory', metavar='DIR', help='the folder; made if it is not there')
    which = parser.add_mutually_exclusive_group(required=True)
    for name, kit in KITS.items():
        also = ['--octave'] if name == 'matlab' else []
        which.add_argument(f'--{name}', *also, dest='kit', action='store_const', const=name, help=f'for {kit.title}')
    parser.add_argument('--force', action='store_true', help='overwrite files that have been changed')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the kit; 2 if it cannot be written."""
    from bridge.kit import missing, write

    if not args.directory:  # as of a variable that is not set
        print('iblbridge kit: the folder has no name; name one, or . for this one', file=sys.stderr)
        return 2
    args.directory = Path(args.directory)
    try:
        files = write(args.kit, args.directory, args.force)
    except OSError as e:
        print(f'iblbridge kit: {e.filename or args.directory}: {e.strerror or e}', file=sys.stderr)
        return 2
    for file in files:
        print(args.directory / file)
    if lacking := missing(args.kit):
        print(
            f'Not in this kit: {" and ".join(lacking)}, for programs on Windows. iblbridge was built without MinGW '
            'here: install a released wheel of it, or MinGW (Debian: apt install gcc-mingw-w64-x86-64 '
            'gcc-mingw-w64-i686) and iblbridge again, and write the kit once more.'
        )
    print(f'Begin with {args.directory / "README.md"}')
    return 0
