"""What lies in the segment directory, who owns it, and the removal of what nobody owns.

The C side (``iblbw_inspect``, ``iblbw_clean``) reads files and asks the kernel who holds which lock; here its numbers
become `Report`, and a report becomes findings: sentences that say what is wrong and what to do. Nothing is decided from
process ids, which are recycled; and nothing is removed because it looks dead: `clean` takes every lock that an owner
could hold before it unlinks a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bridge.errors import BridgeError, check, error_for
from bridge.listen import owed as masters
from bridge.numbers import CODES
from bridge.segment import kept, listeners, losses
from bridge.segment.library import ffi, last_error, lib, text_of
from bridge.segment.listeners import Listener
from bridge.segment.words import age, counted, is_tool

TOOL_SLOTS = 1  # segment.c keeps the last one for the tools
_MOST_SLOTS = 64
_SERVICES_BYTES = 16 << 10
_SYSTEM = CODES['IBLB_E_SYSTEM']  # of a report: nobody can say of which boot the segment is
_REMOVED = '.removed-'  # os_windows.c: as good as deleted, but somebody has it mapped
_SLOT_STATES = {0: 'free', 1: 'claimed', 2: 'quarantined'}


class Slot(NamedTuple):
    """A slot that somebody holds, or held.

    Attributes
    ----------
    number : int
        Which it is, from 0.
    state : str
        ``claimed``, ``quarantined`` or ``damaged``.
    alive : bool
        Its owner lives, if only stopped.
    client, process : str
        The client's name; the name of the process that has its pid now.
    pid : int
        As the client wrote it.
    age : float or None
        s since it was claimed; None: not in this boot.
    pending : int
        Commands without an answer; -1: the ring makes no sense.
    serving : str
        The listener that it serves; "" for none.
    closed : bool
        Its owner has closed it in order, or its loss is noted: nobody is lost any more, and the worker frees it.
    waiting : int
        Of the pending ones those that a worker would send now to have something done, be their sender gone or not.
    """

    number: int
    state: str
    alive: bool
    client: str
    process: str
    pid: int
    age: float | None
    pending: int
    serving: str = ''
    closed: bool = False
    waiting: int = 0

    @property
    def is_left(self) -> bool:
        """bool: its owner has ended without closing it."""
        return not (self.alive or self.closed)


class Service(NamedTuple):
    """A configured service, as its worker published it.

    Attributes
    ----------
    name : str
        As configured.
    down : bool
        Its last command did not reach it.
    age : float or None
        s since it was last heard; None: never.
    """

    name: str
    down: bool
    age: float | None


class Report(NamedTuple):
    """One file of the segment directory.

    Attributes
    ----------
    name : str
        The file's name.
    kind : str
        ``segment``; ``half-made``: of a worker that makes one or died while it did; ``foreign``: it does not begin as
        a segment does.
    code : int
        What `bridge.Client` would meet: 0, or a negative status.
    sentence : str
        Why, if it is not 0.
    bytes : int
        Size of the file.
    locks : int
        How many locks are held; with 0 it has no owner.
    worker_alive : bool
        A worker holds it, if only stopped.
    worker : dict
        ``pid``, ``process``, ``age`` (s or None), ``epoch`` of the worker that holds it, or held it last.
    boot : str
        ``this``, ``another`` or ``unknown``.
    layout, library : int
        Versions; 0: unknown.
    services : list of str
        Names, in configured order.
    services_up : int
        How many of them answered lately.
    health : list of Service
        What is known of each.
    size : int
        How many slots there are.
    slots : list of Slot
        Those that are not free.
    listeners : list of Listener
        Where the worker is a service itself, and who serves.
    owed : list of bridge.segment.losses.Owed
        What has still to be sent for clients that died.
    masters : list of bridge.listen.owed.Waiting
        Which masters have still to hear something from the next worker; none while there is one.
    """

    name: str
    kind: str
    code: int
    sentence: str
    bytes: int = 0
    locks: int = 0
    worker_alive: bool = False
    worker: dict[str, Any] = {}
    boot: str = 'unknown'
    layout: int = 0
    library: int = 0
    services: Sequence[str] = ()
    services_up: int = 0
    health: Sequence[Service] = ()
    size: int = 0
    slots: Sequence[Slot] = ()
    listeners: Sequence[Listener] = ()
    owed: Sequence[losses.Owed] = ()
    masters: Sequence[masters.Waiting] = ()

    @property
    def has_owner(self) -> bool:
        """bool: somebody holds a lock of it."""
        return self.locks > 0

    @property
    def findings(self) -> list[str]:
        """List of str: What is wrong with it; empty if nothing is."""
        return findings(self)

    @property
    def is_served(self) -> bool:
        """bool: a worker lives, and is not stopped."""
        return self.worker_alive and not self.worker.get('stopped')

    @property
    def notes(self) -> list[str]:
        """List of str: What its worker is about to do; nobody else has to do anything."""
        if not self.is_served or self.code:
            return []
        ended = [slot.client for slot in self.slots if slot.is_left and slot.state == 'claimed']
        said = [f'{client} ended without closing; its slot is free within a second' for client in ended]
        return said + [losses.intention(owed) for owed in self.owed if owed.client not in ended]


def directory() -> Path:
    """Return where the segments of this user are.

    Raises
    ------
    bridge.errors.BridgeError
        ``IBLB_E_NO_SEGMENT``: there is no such directory yet; ``IBLB_E_PERMISSION``: it is not ours alone.
    """
    buffer = ffi.new('char[]', 1024)
    check(lib.iblbw_directory(buffer, 1024))
    return Path(bytes(ffi.string(buffer)).decode())


def directory_name() -> str:
    """Return the same without judging it."""
    return text_of(lib.iblbw_directory)


def inspect(name: str) -> Report:
    """Look at one file of the directory.

    Parameters
    ----------
    name : str
        The segment's name, or that of a half-made one.

    Returns
    -------
    Report
        One that cannot be read is reported with the reason as its `sentence`.

    Raises
    ------
    bridge.errors.BridgeError
        ``IBLB_E_NO_SEGMENT``: it is not there (any more).
    """
    raw, slots = ffi.new('struct iblbw_report *'), ffi.new('struct iblbw_slot_report[]', _MOST_SLOTS)
    services = ffi.new('char[]', _SERVICES_BYTES)
    half_made = lib.iblbw_kind(name.encode()) == 2
    code = lib.iblbw_inspect(name.encode(), raw, slots, services, _SERVICES_BYTES)
    if code == CODES['IBLB_E_NO_SEGMENT']:
        raise error_for(code, last_error())
    if code:
        return Report(name, 'half-made' if half_made else 'segment', code, last_error())
    now = float(_clock_ns())
    same_boot = bool(raw.same_boot)
    names = _text(services, keep='\n').splitlines()
    found = [_slot(i, slots[i], now, same_boot) for i in range(raw.slots) if slots[i].state or slots[i].alive]
    serving = [(slot.serving, slot.client, slot.pid) for slot in found if slot.alive and slot.state == 'claimed']
    known = kept.load(directory() / name, 'listeners', raw.last_kept) if raw.listeners else {}
    is_whole = same_boot and raw.is_segment and not raw.code
    return Report(
        name=name,
        kind='half-made' if half_made else 'segment' if raw.is_segment else 'foreign',
        code=0 if half_made else raw.code,
        sentence='' if half_made else _text(raw.sentence),
        bytes=raw.bytes,
        locks=raw.locks,
        worker_alive=bool(raw.worker_alive),
        worker={
            'pid': raw.worker_pid,
            'process': _text(raw.worker_name),
            'stopped': bool(raw.worker_alive) and _is_stopped(raw.worker_pid),
            'age': _age(raw.worker_since, now, same_boot),
            'epoch': raw.epoch,
        },
        boot='unknown' if not raw.slots or raw.code == _SYSTEM else 'this' if same_boot else 'another',
        layout=raw.layout_version,
        library=raw.library_version,
        services=names,
        services_up=raw.services_up,
        health=[
            Service(name, bool(raw.service_down[i]), _age(raw.service_heard[i], now, same_boot))
            for i, name in enumerate(names)
        ],
        size=raw.slots,
        slots=found,
        listeners=listeners.found(
            [_text(raw.listener[i]) for i in range(raw.listeners)],
            serving,
            known,
            raw.segment_id,
            now,
        ),
        owed=_owed(name, raw.segment_id, found, now) if is_whole else [],
        masters=_masters(known, raw.segment_id, serving, now) if is_whole and not raw.worker_alive else [],
    )


def _owed(name: str, segment_id: int, slots: Sequence[Slot], now: float) -> list[losses.Owed]:
    here = [slot.client for slot in slots if slot.alive]
    gone = [slot.client for slot in slots if slot.is_left]
    owed = losses.seen(kept.load(directory() / name, losses.KIND), segment_id, here, gone, now)
    return [one._replace(client=_printable(one.client), send=_printable(one.send)) for one in owed]


def _masters(
    known: Mapping[str, Any], segment_id: int, serving: Sequence[tuple[str, str, int]], now: float
) -> list[masters.Waiting]:
    found = masters.waiting(known, f'{segment_id:016x}', int(now), [listener for listener, _, _ in serving])
    return [one._replace(listener=_printable(one.listener), master=_printable(one.master)) for one in found]


def other_users() -> list[Path]:
    """Return the directories in which other users of this computer have their segments, if such lie beside ours."""
    ours = Path(directory_name())
    before, dash, user = ours.name.rpartition('-')
    if not (dash and user.isdigit()) or os.environ.get('IBLBRIDGE_DIR'):
        return []
    beside = (path for path in ours.parent.glob(f'{before}-*') if path.name.removeprefix(f'{before}-').isdigit())
    return sorted(path for path in beside if path.name != ours.name and path.is_dir() and not path.is_symlink())


def survey() -> tuple[list[Report], list[str]]:
    """Look at everything in the directory.

    Returns
    -------
    reports : list of Report
        Sorted by name.
    ignored : list of str
        What cannot be a segment, by its name or because it is no file.

    Raises
    ------
    bridge.errors.BridgeError
        As `directory`.
    """
    reports, ignored = [], []
    for path in sorted(directory().iterdir()):
        name = path.name
        if kept.is_place(path) or name.startswith(_REMOVED):
            continue
        if not name.isascii() or not lib.iblbw_kind(name.encode()) or path.is_symlink() or not path.is_file():
            ignored.append(name)
            continue
        try:
            reports.append(inspect(name))
        except BridgeError:  # removed since it was listed
            continue
    return reports, ignored


def clean(name: str, *, drop: bool = False) -> None:
    """Remove a file that provably has no owner.

    Parameters
    ----------
    name : str
        The segment's name, or that of a half-made one.
    drop : bool
        Also if somebody still waits for something that the next worker would do.

    Raises
    ------
    bridge.errors.BridgeError
        It was left alone; the sentence says why.
    ValueError
        Something has still to be sent, for a client that died or by one that is gone, or a master has still to hear
        something: with the segment it would be lost. The sentences say what it is.
    """
    report = inspect(name)
    if report.code == _SYSTEM and not drop:  # nor what somebody still waits for
        raise error_for(report.code, report.sentence)
    if not (drop or report.has_owner) and (debts := [*_debts(report), *_left(report)]):
        raise ValueError(' '.join([*debts, f'To give that up: iblbridge doctor --clean --drop {name}.']))
    check(lib.iblbw_clean(name.encode()))


def findings(report: Report) -> list[str]:
    """Return what is wrong with a file, in sentences.

    Parameters
    ----------
    report : Report
        What was seen.

    Returns
    -------
    list of str
        Empty if all is well.
    """
    if report.kind == 'half-made':
        return [] if report.has_owner else ['A worker died while making this segment. Remove it with --clean.']
    if report.kind == 'foreign':
        return [
            report.sentence if report.has_owner else f'{report.name} is not a segment, or one that was overwritten.'
        ]
    found = [report.sentence] if report.code else []
    unserved = not report.code and not report.worker_alive
    if report.boot == 'this' and unserved:
        found.extend(_unserved(report))
        found.extend(_debts(report))
    if report.worker_alive and report.worker.get('stopped'):
        pid = report.worker['pid']
        found.append(f'Its worker is stopped, by Ctrl-Z or SIGSTOP, and serves nobody. Let it go on: kill -CONT {pid}.')
    for service in report.health if report.worker_alive else ():
        if service.down:
            heard = f'last heard {age(service.age)} ago' if service.age is not None else 'never heard'
            look = f'iblbridge send {report.name} SERVICES'
            found.append(f'Service {service.name} is down ({heard}). Why: {look}. Start it, and send it EXPSTATUS.')
    found += filter(None, map(listeners.finding, report.listeners if report.worker_alive else ()))
    for slot in report.slots if report.boot == 'this' else ():
        told = unserved or report.is_served  # what is to be done was told, or there is nothing to do
        found.extend(f'Slot {slot.number} ({slot.client}): {said}' for said in _slot_findings(slot, told=told))
    return found


def _is_stopped(pid: int) -> bool:
    """Tell whether a process that lives has been stopped; False where the system does not say so."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text(errors='replace')
    except OSError:
        return False
    return stat.rpartition(')')[2].split()[:1] == ['T']


def _unserved(report: Report) -> list[str]:
    """Return what is to be done about a segment without a worker, as one cause in one line; none if it was stopped."""
    start = f'Start the worker: iblbridge serve --segment {report.name}.'
    programs = [slot for slot in report.slots if not is_tool(slot.client)]
    pending = sum(max(slot.pending, 0) for slot in programs)
    gone = sum(not slot.alive for slot in programs)
    left = f'{counted(pending, "command")} of {counted(len(programs), "program")} without an answer'
    left += f', {gone} of these gone' if gone else ''
    if len(report.slots) >= report.size - TOOL_SLOTS:
        return [f'No worker serves it and frees the slots, and all are taken: {left}. {start}']
    if pending or (report.has_owner and report.worker['pid']):
        return [f'No worker serves it: {left}. {start}' if programs else f'No worker serves it. {start}']
    if report.owed or not report.worker['pid']:
        return []
    next_step = 'The next worker will take it over; or remove it with --clean.'
    return [f'It has no worker and no clients, and the last worker did not stop in order. {next_step}']


def _debts(report: Report) -> list[str]:
    """Return what the next worker has to send for clients that died, and to say to masters."""
    start = _start(report)
    drop = 'One whose settings have no on_client_lost drops it.'
    said = [f'{losses.sentence(owed)}. The next worker sends it: {start}. {drop}' for owed in report.owed]
    return said + [f'{masters.sentence(one)}. The next worker says it: {start}.' for one in report.masters]


def _left(report: Report) -> list[str]:
    """Return what the next worker has to send by order of programs that are gone."""
    gone = [slot for slot in report.slots if slot.waiting and not slot.alive and report.boot == 'this']
    return [
        f'{counted(slot.waiting, "command")} of {slot.client}, which is gone, {"was" if slot.waiting == 1 else "were"} '
        f'not sent. The next worker does that until it is too late: {_start(report)}.'
        for slot in gone
    ]


def _start(report: Report) -> str:
    return f'iblbridge serve --segment {report.name}, with its files of services and settings'


def _slot_findings(slot: Slot, *, told: bool) -> list[str]:
    found = []
    if slot.state == 'quarantined':
        found.append(
            'the worker found nonsense in its rings. Look for a memory error in that program; '
            'it then has to open the segment again.'
        )
    elif slot.state == 'damaged':
        found.append('it is in no known state.')
    elif slot.pending < 0:
        found.append('its command ring makes no sense.')
    # What was closed is freed when the worker has the time.
    if slot.is_left and not told:
        found.append(
            f'its client is gone; {max(slot.pending, 0)} of its commands have no answer yet. A worker will free it.'
        )
    return found


def _slot(number: int, raw: Any, now: float, same_boot: bool) -> Slot:
    state = _SLOT_STATES.get(raw.state, 'damaged')
    return Slot(
        number=number,
        state=state,
        alive=bool(raw.alive),
        client=_text(raw.client),
        process=_text(raw.process),
        pid=raw.pid,
        age=_age(raw.since, now, same_boot),
        pending=raw.pending,
        serving=_text(raw.serving),
        closed=bool(raw.closed),
        waiting=raw.waiting,
    )


def _clock_ns() -> float:
    now = ffi.new('double *')
    lib.iblb_clock_ns(now)
    return float(now[0])


def _age(since: int, now: float, same_boot: bool) -> float | None:
    """Return s; None if the stamp cannot be of this boot."""
    return (now - since) / 1e9 if same_boot and 0 < since <= now else None


def _text(raw: Any, keep: str = '') -> str:
    """Return somebody else's text, fit for a terminal."""
    return _printable(bytes(ffi.string(raw)).decode('utf-8', 'replace'), keep)


def _printable(text: str, keep: str = '') -> str:
    return ''.join(c if c.isprintable() or c in keep else '?' for c in text)
