"""What is known of a rig, as the page shows it: values only, the clock is passed in.

- A **light** is green only for a service that was heard lately and did what it was told last, while a worker goes on:
  who says nothing or fails is yellow, who is down red, and without a worker nobody knows anything.
- A **recording** goes on as long as some service last said RUNNING. What a command may have changed does not end it
  before the service has said something, so that one that dies of EXPEND is lost during the recording. When an end or
  the next beginning has its outcome, whomever it was for, who is down has no say any more until it is back.
- An **alarm** is raised when something is lost during a recording, once until it is back. It is never taken back: who
  has seen it says so to his own browser.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bridge.numbers import LOCAL
from bridge.segment.listeners import is_described
from bridge.segment.words import is_tool
from bridge.web import told
from bridge.web.known import RUNNING, Moment, Service, Since, listener

if TYPE_CHECKING:
    from bridge.segment.inspection import Report

LAST = 12  # commands, events and alarms that are kept
SILENT = 15.0  # s without a word of the worker's loop, which goes round every 5 s
_ENDS = ('EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP')
_TURNS = (*_ENDS, 'EXPINIT', 'EXPSTART')
_OF_COMMANDS = ('command', 'progress', 'outcome', 'notification', 'asked', 'replied')


class Board:
    """What is known of a rig.

    Parameters
    ----------
    segment : str
        Its name.

    Attributes
    ----------
    services : dict of str to Service
        By name, in configured order.
    results : Counter
        How many commands there were, by message and ``done``, ``warning`` or ``failed``.
    """

    def __init__(self, segment: str) -> None:
        self.segment = segment
        self.services: dict[str, Service] = {}
        self.results: Counter[tuple[str, str]] = Counter()
        self._worker = Since()
        self._about: dict[str, Any] = {'pid': 0, 'epoch': 0}
        self._heard: float | None = None  # the worker's loop
        self._wrong: list[str] = []
        self._programs: list[dict[str, Any]] = []
        self._listeners: list[dict[str, Any]] = []
        self._commands: deque[dict[str, Any]] = deque(maxlen=LAST)
        self._events: deque[dict[str, Any]] = deque(maxlen=LAST)
        self._alarms: deque[dict[str, Any]] = deque(maxlen=LAST)
        self._alarmed: dict[str, dict[str, Any]] = {}  # what is lost now
        self._recording = Since()
        self._last = _experiment()
        self._absent: set[str] = set()  # what was lost already when the recording began
        self._numbers = (f'{secrets.token_hex(4)}-{number}' for number in itertools.count(1))

    # What comes in

    def look(self, report: Report | None, now: Moment) -> None:
        """Take in what the segment's file says; None: there is no such file."""
        epoch = report.worker.get('epoch', 0) if report else 0
        if report and report.worker_alive and epoch != self._about['epoch']:
            self._heard = now.at  # another one, which has as much time as this one had
        self._become_worker(self._state_of(report, now), now)
        if report is None:
            self._wrong, self._programs = ['There is no such segment: its worker was never started, or removed it.'], []
            return
        self._about = {'pid': report.worker.get('pid', 0), 'epoch': epoch}
        self._wrong = [told.text(sentence) for sentence in report._replace(health=()).findings]
        self._programs = [
            {
                'client': told.text(slot.client),
                'process': told.text(slot.process),
                'pid': slot.pid,
                'alive': slot.alive,
                'pending': slot.pending,
                'age_s': slot.age,
            }
            for slot in report.slots
            if not is_tool(slot.client)
        ]
        self._listeners = [listener(one) for one in report.listeners]
        for known in report.health:
            service = self._service(known.name)
            if known.down != service.down:
                service.data['health'] = 'down' if known.down else 'unknown'
            if known.age is not None:
                service.heard = max(service.heard or 0.0, now.at - known.age)
        names = [known.name for known in report.health]
        if report.health and names != list(self.services):
            self.services = {name: self._service(name) for name in names}
        self.turn(now)

    def learn(self, response: Mapping[str, Any], now: Moment) -> None:
        """Take in the worker's response to SERVICES."""
        self._heard = now.at
        for entry in response['services']:
            data = entry['data']
            if isinstance(data.get('name'), str) and not is_described(data):
                self._service(data['name']).know(data, now)
        self.turn(now)

    def take(self, entry: Mapping[str, Any], now: Moment) -> None:
        """Take in what the worker told those who watch closely."""
        if entry.get('event') == 'COMMAND':
            self._heard = now.at
            self._take_command(entry, now)
        elif entry.get('event'):
            self._heard = now.at
            self._take_event(entry, now)
        self.turn(now)

    def turn(self, now: Moment) -> None:
        """Draw the conclusions of what came, and of the time that went by."""
        recording = self._recording.what is True
        lost: dict[str, tuple[bool, str, str]] = {}  # what is lost, and what is to be said of it
        for service in self.services.values():
            service.since.become(service.health(now), now)
            service.status_since.become(service.data['status'], now)
            name, why = told.text(service.name), service.data['last_error']
            lost[f'service {service.name}'] = service.down, f'{name} is lost', why
        for one in self._listeners:
            lost[f'listener {one["name"]}'] = not one['client'], f'No program is {one["name"]} any more', ''
        for key, (is_lost, title, why) in lost.items():
            if not is_lost:
                self._over(key, now)
                self._absent.discard(key)
            elif recording and key not in self._absent:
                self._alarm(key, title, why, now)
        self._turn_recording(now, {key for key, (is_lost, _, _) in lost.items() if is_lost})

    # What goes out

    def snapshot(self, now: Moment) -> dict[str, Any]:
        """Return everything, as JSON has it.

        Parameters
        ----------
        now : Moment
            The present one.

        Returns
        -------
        dict
            What ``/api/state`` says: its keys are described in bridge/README.md.
        """
        self.turn(now)
        serving = self._worker.what == 'serving'
        return {
            'segment': self.segment,
            'now': now.text(),
            'worker': {**self._about, 'state': self._worker.what or 'none', **self._worker.shown(now)},
            'services': [service.shown(now, serving=serving) for service in self.services.values()],
            'listeners': [one | ({} if serving else {'light': 'none'}) for one in self._listeners],
            'experiment': self._experiment(now),
            'commands': list(self._commands),
            'events': list(self._events),
            'alarms': list(self._alarms),
            'programs': self._programs,
            'findings': self._wrong,
        }

    def _experiment(self, now: Moment) -> dict[str, Any]:
        running = self._recording.what is True
        return {**self._last, 'running': running} | ({'took_s': self._took(now)} if running else {})

    # Parts

    def _service(self, name: str) -> Service:
        return self.services.setdefault(name, Service(name))

    def _state_of(self, report: Report | None, now: Moment) -> str:
        if report is None or not report.worker_alive:
            return 'none'
        if report.worker.get('stopped'):
            return 'stopped'
        return 'silent' if self._heard is not None and now.at - self._heard > SILENT else 'serving'

    def _become_worker(self, state: str, now: Moment) -> None:
        turned = self._worker.become(state, now)
        if state == 'serving':
            self._over('worker', now)
        elif turned and self._recording.what is True:
            self._alarm('worker', 'The worker is lost', 'Nobody passes commands on to the services.', now)

    def _take_command(self, entry: Mapping[str, Any], now: Moment) -> None:
        health, kind = entry.get('health'), entry.get('kind')
        if isinstance(health, Mapping) and isinstance(health.get('name'), str):
            self._service(health['name']).know(health, now)
        key = entry.get('command_id')
        if not key or not isinstance(key, str) or kind not in _OF_COMMANDS or entry.get('message') in LOCAL:
            return
        command = next((one for one in reversed(self._commands) if one['command_id'] == key), None)
        if command is None:
            command = told.begun(entry)
            self._commands.append(command)
        if kind == 'progress':
            command['services'] += told.done(entry.get('services'))
        elif kind == 'replied':  # of a listener, to a master
            command |= told.replied(entry)
        elif kind in ('outcome', 'notification'):
            command |= told.ended(entry)
            command['services'] = told.done(entry.get('services')) or command['services']
            self.results[command['message'], command['result']] += 1
            for done in command['services']:
                service = self.services.get(done['name'])
                if service is not None:
                    service.failures += not done['ok']
                    if command['message'] in _ENDS:
                        service.running = service.data['status'] == RUNNING
            if command['message'] in _TURNS:
                for service in self.services.values():
                    service.running = service.running and not service.down

    def _take_event(self, entry: Mapping[str, Any], now: Moment) -> None:
        event, service, data = told.text(entry['event']), told.text(entry.get('service')), entry.get('data')
        client, said = told.text(entry.get('client')), told.said(data)
        self._events.append(
            {'event': event, 'service': service, 'client': client, 'said': said, 'wall': told.text(entry.get('wall'))}
        )
        running = self._recording.what is True
        known = self.services.get(service)
        if event == 'SERVICE_DOWN' and known:
            known.data |= {'health': 'down', 'last_error': said or known.data['last_error']}
        elif event == 'SERVICE_UP' and known:
            known.data['health'], known.heard = 'up', now.at
        elif event == 'EXPERIMENT_LOST':
            self._alarm(f'experiment {service}', f'{service} has lost the experiment', said, now)
        elif event == 'EXPINTERRUPT' and service and running:
            self._alarm(f'interrupt {service}', f'{service} says that it was interrupted', said, now)
        elif event == 'CLIENT_LOST' and running:
            self._alarm(f'client {client}', f'The program {client} ended without closing', '', now)
        elif event == 'WORKER_RESTARTED':
            self._heard = now.at

    def _turn_recording(self, now: Moment, lost: set[str]) -> None:
        running = [service.data['exp_ref'] for service in self.services.values() if service.running]
        running += [one['exp_ref'] for one in self._listeners if one['client'] and one['status'] == RUNNING]
        turned = self._recording.become(bool(running), now)
        if running and (turned or not self._last['started']):
            started = self._started()
            seen = bool(started)
            self._absent = lost if seen else set()
            self._last = _experiment(started=started or self._recording.text, seen=seen)
        if said := Counter(reference for reference in running if reference).most_common(1):
            self._last['exp_ref'] = told.text(said[0][0])
        if turned and not running:
            self._last |= {'ended': now.text(), 'took_s': self._took(now)}
            for key in [key for key in self._alarmed if not key.startswith(('service ', 'listener ', 'worker'))]:
                del self._alarmed[key]  # the next experiment's are new ones

    def _took(self, now: Moment) -> float | None:
        began = told.seconds(self._last['started'])
        return None if began is None else round(max(now.wall - began, 0.0), 1)

    def _started(self) -> str:
        """Return when the EXPSTART was sent that is behind a recording that begins; "" if it was not seen."""
        told_last = (one for one in reversed(self._commands) if one['message'] in ('EXPSTART', *_ENDS))
        last = next(told_last, {'message': ''})
        return str(last['wall']) if last['message'] == 'EXPSTART' else ''

    def _alarm(self, key: str, title: str, text: str, now: Moment) -> None:
        if key in self._alarmed:
            return
        alarm = {'id': next(self._numbers), 'title': title, 'text': told.text(text), 'wall': now.text(), 'over': ''}
        self._alarmed[key] = alarm
        self._alarms.append(alarm)

    def _over(self, key: str, now: Moment) -> None:
        alarm = self._alarmed.pop(key, None)
        if alarm is not None:
            alarm['over'] = now.text()


def _experiment(*, started: str = '', seen: bool = False) -> dict[str, Any]:
    return {'exp_ref': '', 'started': started, 'started_seen': seen, 'ended': '', 'took_s': None}
