"""What test_cameras.py asks of every kit that serves, with Python's."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Any

from bridge import Client
from bridge.numbers import CODES


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def code(in_time: bool) -> int:
    return 0 if in_time else CODES['IBLB_E_LATE']


def show(rig: Client) -> None:
    before = time.perf_counter_ns()
    rig.serve('cameras')
    for command in rig.commands():
        names = ('service', 'master', 'message', 'args', 'timeout_ms')
        stamps = before < command.time <= time.perf_counter_ns() and bool(datetime.fromisoformat(command.wall))
        say({**{name: getattr(command, name) for name in names}, 'stamps': stamps and command.number > 0})
        command.answer('CONNECTED', {'file': 'é.avi'})


def leave(rig: Client) -> None:
    rig.serve('cameras')
    taken = []
    for command in rig.commands():
        with command:
            taken.append(command.message)
            if len(taken) == 2:
                command.answer()
                say(taken)


def attempt(rig: Client) -> None:
    def work(command: Any) -> int:
        if command.message == 'EXPSTART':
            raise RuntimeError('the lens is gone 🐭')
        return 5

    rig.serve()
    for command in rig.commands():
        in_time = command.attempt(work)
        say([str(command.error or ''), code(in_time)])


def throw(rig: Client) -> None:
    rig.serve('cameras')
    try:
        with rig:
            for command in rig.commands():
                with command:
                    raise RuntimeError('the lens is gone')
    except RuntimeError as error:
        say(str(error))
    time.sleep(60)


def late(rig: Client) -> None:
    rig.serve('cameras')
    say('serving')
    for command in rig.commands():
        if command.message == 'EXPSTART':
            time.sleep(0.6)
        say(code(command.answer()))


def busy(rig: Client) -> None:
    rig.serve('cameras')
    for command in rig.commands():
        say(command.message)
        if command.message == 'EXPSTART':
            while (other := rig.next_command(0.01)) is None:
                assert not command.interrupted
            assert command.interrupted and not other.interrupted
            say('interrupted')
            say(other.message)
            other.answer()
        command.answer()


def is_refused(call: Any, *arguments: Any) -> bool:
    try:
        call(*arguments)
    except (TypeError, ValueError, RuntimeError):
        return True
    except Exception as error:
        return error.__class__.__name__ in ('Misuse', 'BridgeError', 'NoSegment')
    return False


def wrong(rig: Client) -> None:
    rig.serve('cameras', ['EXPSTART', 4])
    for command in rig.commands():
        calls: list[tuple[Any, ...]] = [
            *((command.answer, None, value) for value in (float('nan'), {1}, object(), 'x' * 70000)),
            *((command.answer, status) for status in ('RUNS', 5, True, {'frames': 3})),
            *((command.fail, sentence) for sentence in (None, 'a\0b')),
            *((rig.tell, message) for message in ('EXPSTART', 'EXPSTATUS', 'NOTHING')),
            *((rig.serve, *more) for more in (('ephys',), ('cameras', ['PING']), ('cameras', ['START']), (5,))),
        ]
        results = [is_refused(*call) for call in calls]
        command.answer(data={'done': True})
        results.append(is_refused(command.answer))
        say(len(results))
        say(results)


def stop(rig: Client) -> None:
    rig.serve('cameras')
    for command in rig.commands():
        command.answer()
        rig.serve('cameras', [])
        break
    say('stopped')
    time.sleep(60)


globals()[sys.argv[1]](Client('rig0', 'program', 5))
