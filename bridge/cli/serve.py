"""``iblbridge serve``: the worker of one segment, until SIGINT or SIGTERM. SIGHUP has it read its files again.

People read the log on standard error. Standard output gets one line, ``READY <segment> <path>``, once clients can
attach.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.cli import page
from bridge.cli.words import example, waiting

if TYPE_CHECKING:
    from bridge.cli.page.process import PageProcess
    from bridge.config import RigConfig
    from bridge.journal import Journal
    from bridge.worker import Worker

log = logging.getLogger(__name__)
File = TypeVar('File')


def add_parser(subparsers: Any) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        'serve',
        help='run the worker: pass commands of programs on to the services',
        description="Run a rig's worker until Ctrl-C: it passes the commands of programs on to the remote services, "
        'and tells the programs what each service did. It takes over what a worker that has died left behind.',
        epilog=example('iblbridge serve --segment rig0 --services remote_devices.yaml'),
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser, leave_out: Collection[str] = ()) -> list[argparse.Action]:
    """Describe the options, but for some; return what was described."""
    described: list[argparse.Action] = []

    def add(option: str, *more: str, **about: Any) -> None:
        if option.strip('-').replace('-', '_') not in leave_out:
            described.append(parser.add_argument(option, *more, **about))

    add(
        '--segment',
        required=True,
        metavar='NAME',
        help="the rig's name, such as rig0, by which programs open it",
    )
    add(
        '--services',
        metavar='FILE',
        help='the services, as in iblrig\'s remote_devices.yaml: lines of "name: address" (see bridge/README.md)',
    )
    add(
        '--settings',
        metavar='FILE',
        help='settings of these services, in a file of its own (see bridge/README.md)',
    )
    add(
        '--service',
        action='append',
        default=[],
        metavar='NAME=URI',
        help='one more service, such as cameras=192.168.0.8; may be given several times',
    )
    add(
        '--listen',
        action='append',
        default=[],
        metavar='NAME=URI',
        help='be a service at this address, such as cameras=udp://0.0.0.0:11001, whose commands a program carries out '
        '(iblb_serve); may be given several times; without a host for this computer alone',
    )
    add(
        '--as',
        dest='names',
        action='append',
        default=[],
        metavar='NAME',
        help='the name of a --listen that is an address alone',
    )
    add(
        '--timeout',
        type=waiting,
        default=10.0,
        metavar='TIME',
        help='how long a service may take to reply: 5s, 500ms, or a number of seconds (default: 10)',
    )
    page.add_http(add)
    add('--journal', metavar='FILE', help='write every command, its outcome, and every event to this file')
    add(
        '--journal-rotate',
        metavar='WHEN',
        help='begin a new file each day (day), or before it has more than a size such as 50MB; complete ones stand '
        'beside it, by their day, and are compressed',
    )
    add(
        '--any-reference',
        action='store_true',
        help='let the reference of an experiment have any form, not only date_sequence_subject as iblrig has it',
    )
    add(
        '--no-ask',
        action='store_true',
        help='do not ask the services what they are doing, at the start or when one is back',
    )
    add('--notify', action='store_true', help='send EXPCLEANUP to all services at the end')
    add(
        '--remove',
        action='store_true',
        help='remove the segment, which programs open, at the end; but not while the next worker has something to do',
    )
    add('--until-eof', action='store_true', help='also end when standard input ends, for programs that start this one')
    add('--log', metavar='FILE', help='write the log to this file as well; large ones are begun anew, five are kept')
    add('-v', '--verbose', action='store_true', help='log every command')
    return described


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; 2 if the configuration is wrong, 3 if segment or address cannot be had."""
    from bridge.cli.logfile import open_log, start_log
    from bridge.config import ConfigError
    from bridge.journal import Journal
    from bridge.rereading import Rereading

    try:
        rig = configured(args)
        journal = _opened(args.journal, partial(Journal, rotation=rig.journal_rotate), 'journal')
        log_file = _opened(args.log, open_log, 'log')
    except ConfigError as e:
        print(f'iblbridge serve: {e}', file=sys.stderr)
        return 2

    from bridge.cli.console import go_on_when_clicked, on_hangup, on_stdin_end, on_stop_signals, say_aside
    from bridge.cli.page.process import PageProcess
    from bridge.errors import BridgeError
    from bridge.worker import Worker

    shown = None
    wishes = _Wishes()
    files = [path for path in (args.services, args.settings) if path]
    on_stop_signals(wishes.stop)
    on_hangup(wishes.reload, wishes.stop)
    go_on_when_clicked()
    start_log(logging.DEBUG if args.verbose else logging.INFO, log_file)
    if rig.journal_rotate is not None and journal is None:
        log.warning('journal_rotate is set, but there is no journal; add --journal FILE')
    try:
        shown = PageProcess(args.segment, rig.http) if rig.http else None  # it gets ready while the worker does
        worker = Worker(
            args.segment,
            list(rig.services.values()),
            timeout=args.timeout,
            heartbeat=rig.heartbeat,
            listeners=list(rig.listen.values()),
            on_client_lost=rig.on_client_lost,
            any_reference=rig.any_reference,
            ask=rig.ask,
            notify=args.notify,
            journal=journal,
            reread=Rereading(files, lambda: _configured_again(args, rig)) if files else None,
        )
        wishes.pass_on(worker)
        try:
            log.info('segment %s: %s', args.segment, worker.path)
            _say_who_is_there(rig, worker, shown)
            # What is loaded by now stays. To look through it takes the collector some 5 ms, in the middle of a command.
            gc.freeze()
            if args.until_eof:
                on_stdin_end(lambda: wishes.stop('the end of standard input'))
            with say_aside(f'READY {args.segment} {worker.path}'):
                worker.run()  # if it was stopped by now, it ends in an orderly way
        finally:
            worker.close(remove=args.remove)
    except (ConfigError, BridgeError, RuntimeError) as e:
        return _say_why(e)
    finally:
        _close(shown, journal)
    log.info('stopped by %s', wishes.stopped_by or 'itself')
    return 0


def _say_why(error: Exception) -> int:
    """Say why there is no worker any more; return the exit status."""
    from bridge.addresses import NotToBeHad
    from bridge.cli import exit_status
    from bridge.config import ConfigError
    from bridge.errors import BridgeError
    from bridge.numbers import EXITS

    if isinstance(error, BridgeError):
        said, status = error.text, exit_status(error.code)
    elif isinstance(error, ConfigError):  # two names that turn out to be one address; or no page
        said, status = str(error), EXITS['NO_RIG' if isinstance(error, NotToBeHad) else 'MISUSE']
    else:  # the network thread has ended; what led to it was logged
        said, status = f'{error}; start the worker again', 1
    print(f'iblbridge serve: {said}', file=sys.stderr)
    return status


class _Wishes:
    """What signals ask of the worker, also while it is being made."""

    def __init__(self) -> None:
        self.stopped_by, self._reload = '', False
        self._worker: Worker | None = None

    def stop(self, reason: str) -> None:
        self.stopped_by = self.stopped_by or reason
        if self._worker is not None:
            self._worker.stop(reason)

    def reload(self, reason: str) -> None:
        self._reload = True
        if self._worker is not None:
            self._worker.reload()

    def pass_on(self, worker: Worker) -> None:
        """Let a worker know, now and from now on."""
        self._worker = worker
        if self.stopped_by:
            worker.stop(self.stopped_by)
        if self._reload:
            worker.reload()


def _close(*opened: PageProcess | Journal | None) -> None:
    for each in opened:
        if each is not None:
            each.close()


def _say_who_is_there(rig: RigConfig, worker: Worker, shown: PageProcess | None) -> None:
    """Log the services, the listeners and the page; ConfigError if there is to be a page and there is none."""
    for service in rig.services.values():
        if not service.unsupported:  # of those it is told, by whoever opens them
            log.info('service %s: %s%s', service.name, service.uri, ' (optional)' if service.optional else '')
    for name, port in worker.ports.items():
        log.info('listening as %s at udp://%s:%d', name, rig.listen[name].host, port)
    if not rig.services and not rig.listen:
        log.warning('no services are configured: commands reach nobody; add --services FILE or --service name=uri')
    if shown is not None:
        shown.wait()


def _configured_again(args: argparse.Namespace, rig: RigConfig) -> RigConfig:
    """Return what files and options say by now; ConfigError also for what takes a restart."""
    from bridge.config import ConfigError

    again = configured(args)
    for name in ('http', 'journal_rotate'):
        if getattr(again, name) != getattr(rig, name):
            raise ConfigError(f'_rig: {name}: to change it takes a restart')
    return again


def _with_page(rig: RigConfig, http: str | None, environment: Mapping[str, str]) -> RigConfig:
    """Return what is configured with the page of the option, and the token of the environment."""
    from bridge.web.address import check_token, parse_page

    shown = rig.http
    if http is not None:  # token and hosts of a file stay
        at = parse_page(http, '--http')
        shown = at if shown is None else replace(shown, host=at.host, port=at.port)
    if shown is not None and not shown.token:
        shown = replace(shown, token=check_token(environment.get(page.TOKEN, ''), page.TOKEN))
    return replace(rig, http=shown)


def _opened(path: str | None, make: Callable[[str], File], option: str) -> File | None:
    """Open a file, if there is to be one; ConfigError if that is not possible."""
    from bridge.config import ConfigError

    try:
        return make(path) if path else None
    except OSError as e:
        advice = 'name a file in a writable folder that no other program has open'
        raise ConfigError(f'--{option}: {path}: {e.strerror}; {advice}.') from e


def _check_journal(path: str | None, *, rotates: bool) -> None:
    """Raise ConfigError if a journal would be appended to what is none, such as the services' file."""
    from bridge.config import ConfigError
    from bridge.journal import NewerSchema, is_foreign
    from bridge.journal.rotation import GZ

    if not path:
        return
    try:
        if os.path.isdir(path):
            raise ConfigError(f'--journal: {path}: is a folder; name a file in it.')
        if path.endswith(GZ):
            raise ConfigError(f'--journal: {path}: only complete files are compressed; leave {GZ} out.')
        if rotates and os.path.exists(path) and not os.path.isfile(path):
            raise ConfigError(f'--journal-rotate: {path}: is no file of the usual kind, so it has no end.')
        if is_foreign(path):
            raise ConfigError(f'--journal: {path}: holds something else than a journal; name another file.')
    except NewerSchema as e:
        raise ConfigError(f'--journal: {str(e).rstrip(".")}, or name another file.') from e
    except OSError as e:
        raise ConfigError(f'--journal: {path}: {e.strerror}; name a file that can be read and written.') from e


def configured(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> RigConfig:
    """Return what files and options say; ConfigError if that cannot be used."""
    from bridge import config, listening

    for option in ('services', 'settings', 'journal', 'log'):
        if getattr(args, option, None) == '':  # as of a variable that is not set
            raise config.ConfigError(f'--{option}: its file has no name; name one, or leave the option out.')
    rig = config.load_rig(args.services) if args.services else config.RigConfig()
    added = map(config.parse_service_option, args.service)
    rig = replace(rig, services=config.merge_services(rig.services.values(), added))
    if args.settings:
        rig = config.load_settings(args.settings, rig)
    if args.journal_rotate is not None:
        if not args.journal:
            raise config.ConfigError('--journal-rotate: there is no journal; add --journal FILE.')
        rig = replace(rig, journal_rotate=config.parse_rotation(args.journal_rotate, '--journal-rotate'))
    _check_journal(args.journal, rotates=rig.journal_rotate is not None)
    added_listeners = listening.parse_options(args.listen, args.names)
    listeners = listening.merge_listeners(rig.listen.values(), added_listeners, where='--listen')
    rig = replace(
        rig,
        listen=listeners,
        any_reference=args.any_reference or rig.any_reference,
        ask=rig.ask and not args.no_ask,
    )
    rig = _with_page(rig, args.http, environment)
    config.check_listeners(rig.services, rig.listen.values(), '--listen' if args.listen else 'listen')
    config.check_order(rig.services, args.settings or args.services or '--service')
    if not 0 < args.timeout < 3600:
        raise config.ConfigError(f'--timeout: {args.timeout:g} s is too long; write less than an hour, such as 30s.')
    return rig
