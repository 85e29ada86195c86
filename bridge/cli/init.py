"""``iblbridge init``: the first five minutes of a rig. Asks for its services, tries each, and writes their file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.words import example, segment_name

if TYPE_CHECKING:
    from bridge.cli.doctor.probe import Answer
    from bridge.config import ServiceConfig

EXPLAINED = """\
# Settings of a service stand behind its name, such as
#     lamp: {uri: 192.168.0.11, optional: true, timeout: 30}
#   optional     if it alone fails, that is a warning
#   timeout      how many seconds it may take to reply (else 10)
#   after        services that start before it does, and end after it
# Settings of the whole rig:
#     _rig: {heartbeat: 10, journal_rotate: day, on_client_lost: {client: stimulus, send: EXPEND, after_s: 60}}
# All settings: bridge/README.md. A rig whose file iblrig reads as well has them in another one: serve --settings.
"""


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'init',
        help='begin a rig: ask for its services, try each, write their file',
        description='Ask for the services of a new rig, ask each of them what it is doing, and write the file that '
        '"iblbridge serve --services" reads. With --service nothing is asked of you.',
        epilog=example(
            'iblbridge init services.yaml --service cameras=192.168.0.8',
            'Exit status: 0 written, and all services answered; 1 written, but one did not answer; 2 misuse.',
        ),
    )
    parser.add_argument(
        'file', nargs='?', default='services.yaml', metavar='FILE', help='what to write (default: services.yaml)'
    )
    parser.add_argument(
        '--service',
        action='append',
        default=[],
        metavar='NAME=URI',
        help='a service, such as cameras=192.168.0.8; may be given several times',
    )
    parser.add_argument(
        '--segment', type=segment_name, default='rig0', metavar='NAME', help="the rig's name (default: rig0)"
    )
    parser.add_argument('--force', action='store_true', help='overwrite the file, if it is one of services')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, try, write; 1 if a service did not answer, 2 if nothing was written."""
    from bridge import config
    from bridge.cli.doctor import probe
    from bridge.cli.whole import write_whole

    place = Path(args.file)
    try:
        if not args.file:
            raise config.ConfigError('the file has no name; name one, such as services.yaml.')
        if not place.parent.is_dir():
            raise config.ConfigError(f'{place}: there is no folder {place.parent}; make it, or name another file.')
        if place.exists() and not (args.force and place.is_file()):
            advice = 'add --force to overwrite it, or name another file' if place.is_file() else 'name a file'
            raise config.ConfigError(f'{place}: already there; {advice}.')
        if place.exists() and not is_begun(place):
            raise config.ConfigError(f'{place}: is something else than a file of services; name another file.')
        if args.service:
            services = config.merge_services((), map(config.parse_service_option, args.service))
        else:
            services = ask(input, partial(print, file=sys.stderr))
        config.check_addresses(services, '--service')
        if not services:
            raise config.ConfigError('no service was named; nothing was written.')
    except config.ConfigError as e:
        print(f'iblbridge init: {e}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\niblbridge init: interrupted; nothing was written.', file=sys.stderr)
        raise
    answers = probe.ask(services)
    for name, answer in answers.items():
        print(f'{" " if answer.ok else "!"} {probe.line(services[name], answer)}')
    written = text(services, answers, date.today())
    write_whole(place, lambda part: part.write_text(written, 'utf-8'))
    config.load_rig(place)  # what we write we can read
    silent = [name for name, answer in answers.items() if not answer.ok]
    print(f'{place}: {len(services)} service{"s"[len(services) == 1 :]}', end='')
    print(f'; did not answer: {", ".join(silent)}' if silent else '')
    print(f'\nServe them, and command them from another shell:\n{next_lines(args.segment, str(place))}')
    return 1 if silent else 0


def is_begun(place: Path) -> bool:
    """Tell whether a file may be one that is to be written anew: of services, or YAML by name and by what is in it."""
    from bridge import config
    from bridge.reading import read_mapping

    try:
        if place.suffix.lower() in ('.yaml', '.yml'):
            read_mapping(place, '')
        else:
            config.load_rig(place)
    except config.ConfigError:
        return False
    return True


def ask(read: Callable[[str], str], say: Callable[[str], object]) -> dict[str, ServiceConfig]:
    """Ask for names and addresses until a name is empty.

    Parameters
    ----------
    read : callable
        Returns the answer to a question; EOFError when there will be none.
    say : callable
        Told why an answer cannot be used.

    Returns
    -------
    dict of str to ServiceConfig
        By name.
    """
    from bridge import config
    from bridge.addresses import is_address

    services: dict[str, ServiceConfig] = {}
    while True:
        try:
            name = read('Name of a service, such as cameras (empty: no more): ').strip()
            if not name:
                return services
            if is_address(name):
                say(f'{name} is an address; first its name, which you choose, such as cameras.')
                continue
            address = read(f'Address of {name}, such as 192.168.0.8 or 192.168.0.8:11001: ').strip()
        except EOFError:
            return services
        try:
            added = config.parse_service_option(f'{name}={address}')
            one_more = config.merge_services(services.values(), (added,))
            config.check_addresses(one_more)
            services = one_more
        except config.ConfigError as e:
            say(str(e))


def text(services: Mapping[str, ServiceConfig], answers: Mapping[str, Answer], today: date) -> str:
    """Return what stands in the file.

    Parameters
    ----------
    services : mapping of str to ServiceConfig
        By name.
    answers : mapping of str to Answer
        What each of them said.
    today : datetime.date
        When that was.
    """
    import yaml

    lines = [f'# The services of the rig, a line each: name: address. Tried on {today}; behind # what they said then.']
    for name, service in services.items():
        line = yaml.safe_dump({name: service.uri}, allow_unicode=True, width=10**6).strip()
        lines.append(f'{line}  # {"" if answers[name].ok else "no answer: "}{answers[name].said}')
    return '\n'.join(lines) + '\n\n' + EXPLAINED


def next_lines(segment: str, place: str) -> str:
    """Return what to type next."""
    quoted = f'"{place}"' if ' ' in place else place
    return (
        f'    iblbridge serve --segment {segment} --services {quoted} --journal {segment}.jsonl --journal-rotate day\n'
        f'    iblbridge send {segment} EXPINFO'
    )
