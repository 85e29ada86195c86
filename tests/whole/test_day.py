"""A rig's day, faster than it is: sessions one after the other; the worker does not grow, its journal is complete."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from processes import serving
from sessions import Session

from bridge.journal import Reading
from bridge.segment.client import Client

SESSIONS = 8
SERVICES = ('cameras', 'ephys')
GROWTH_KIB = 2048
"""int: what the allocator may keep more at the end of the day than after the second session."""


def footprint(pid: int) -> dict[str, int]:
    """Return private memory in KiB, open descriptors and threads of a process."""
    process = Path(f'/proc/{pid}')
    status = dict(line.split(':', 1) for line in (process / 'status').read_text().splitlines())
    return {
        'memory': int(status['RssAnon'].split()[0]),
        'descriptors': len(list((process / 'fd').iterdir())),
        'threads': int(status['Threads']),
    }


class Day:
    """Count what programs were told, session by session.

    Parameters
    ----------
    polls : int
        EXPSTATUS in each session; one in ten seconds would be 360 in an hour. A stock service is left alone for 0.1 s
        between two.
    seconds : float
        What a session takes at least; 0: as long as it takes.
    """

    def __init__(self, peers: dict[str, Session], polls: int, seconds: float) -> None:
        self.told: dict[str, str] = {}  # command_id to message
        self.notified: Counter[str] = Counter()
        self.events = 0
        self._peers, self._polls, self._pause = peers, polls, seconds / polls

    def session(self, number: int) -> None:
        """Run an experiment by a program of its own, polled by another, with events of the services in between."""
        with Client('rig', 'monitor') as monitor, Client('rig', f'task-{number}') as task:
            monitor.subscribe('EXPINFO')
            self._call(task, 'EXPINIT', {'subject': 'subject'})
            self._call(task, 'EXPSTART', f'2026-01-01_{number}_subject', {'trial': 0})
            for poll in range(self._polls):
                at = time.monotonic() + self._pause
                self._call(monitor, 'EXPSTATUS')
                if (
                    poll % 10 == 5
                ):  # not when a service says something by itself: a stock one forgets that while it answers
                    task.notify('EXPINFO', 0, {'trial': poll})
                    self.notified['EXPINFO'] += 1
                if poll % 20 == 0:
                    self._hear(monitor, f'{number}-{poll}')
                time.sleep(max(at - time.monotonic(), 0))
            self._call(task, 'EXPEND')
            self._call(task, 'EXPCLEANUP')

    def _call(self, client: Client, message: str, *args: Any) -> None:
        body = client.call(message, *args)
        assert [service['ok'] for service in body['services']] == [True, True]
        assert body['command_id'] not in self.told
        self.told[body['command_id']] = message

    def _hear(self, monitor: Client, word: str) -> None:
        for peer in self._peers.values():
            assert peer.say('EXPINFO', word)
            event = monitor.next_event(20)
            assert event and word in json.dumps(event)
            self.events += 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.posix('memory and descriptors are read from /proc')
@pytest.mark.parametrize(('polls', 'seconds'), [(30, 0.0), pytest.param(360, 300 / SESSIONS, marks=pytest.mark.long)])
def test_the_worker_is_the_same_after_a_day_and_all_of_it_is_in_the_journal(tmp_path: Path, polls, seconds):
    journal, settings = tmp_path / 'journal', tmp_path / 'services.yaml'
    with Session('side-by-side') as cameras, Session('side-by-side') as ephys:
        peers = dict(zip(SERVICES, (cameras, ephys), strict=True))
        settings.write_text(''.join(f'{name}: {peer.uri}\n' for name, peer in peers.items()))
        with (
            (tmp_path / 'errors').open('w') as errors,
            serving('--services', settings, '--journal', journal, errors=errors.fileno()) as worker,
        ):
            day, kept = Day(peers, polls, seconds), []
            for number in range(SESSIONS):
                day.session(number + 1)
                kept.append(footprint(worker.pid))
            worker.terminate()
            assert worker.wait(30) == 0
    print('\n' + '\n'.join(map(str, kept)))
    assert {each['descriptors'] for each in kept[1:]} == {kept[1]['descriptors']}
    assert {each['threads'] for each in kept[1:]} == {kept[1]['threads']}
    assert kept[-1]['memory'] - kept[1]['memory'] < GROWTH_KIB
    complete(day, list(Reading(journal)))


def complete(day: Day, entries: list[dict[str, Any]]) -> None:
    """Hold the journal against what programs were told."""
    kinds = Counter(entry['kind'] for entry in entries)
    outcomes = Counter(entry['command_id'] for entry in entries if entry['kind'] == 'outcome')
    messages = {entry['command_id']: entry['message'] for entry in entries if entry['kind'] == 'command'}
    assert 'gap' not in kinds
    assert outcomes == Counter(dict.fromkeys(day.told, 1))
    assert {key: messages[key] for key in day.told} == day.told
    assert kinds['notification'] == day.notified['EXPINFO']
    assert sum('event' in entry and entry['event'] == 'EXPINFO' for entry in entries) == day.events
