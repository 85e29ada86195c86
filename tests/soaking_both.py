"""Masters and a camera for `soaking`: the worker is a service as well, and a program behind it does what masters ask.

A camera is a program of the same segment, through the C functions. Masters are stock iblutil ones and our own
`Auxiliaries`. Each command carries a key in its data, with which the camera answers. Written down are, each in a line
that is whole whenever its writer is killed:

- a master: what it asks, and what came of it: ``replied``, ``failed`` (it was told an error) or ``nothing``;
- the camera: what it ``took``, before it does anything, and what ``answer`` or ``fail`` said.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from bridge.numbers import CODES

LISTENER = 'video'
MASTERS = ('stock-0', 'stock-1', 'ours')
PACE = 0.05  # s between two commands of a master, on average
ASKED = 1 + 2 + 4 + 8 + 16
MESSAGES = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')
REF = '2026-01-01_1_subject'
LATE = CODES['IBLB_E_LATE']
# What a master is told of what no program was asked, or had not taken.
UNDONE = (
    'no program serves',
    'aborted by the EXPINTERRUPT',
    'is in hand; wait',
    'was busy with earlier',
    'wait for video',
)
UNKNOWN = 'whether this was done is not known'
SLACK = 2_000_000_000  # ns around the death of a worker


# --- the processes ---


def film(log: Any, name: str) -> None:
    """Be the camera, until killed or until standard input ends."""
    import select

    from serving_programs import Serving

    from bridge.errors import BridgeError

    print('ready', flush=True)
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        with contextlib.suppress(BridgeError):  # the one before it is not gone yet
            serving = Serving('rig', name=name, service=LISTENER, mask=ASKED)
            while not select.select([sys.stdin], [], [], 0)[0]:
                if (taken := serving.next(100)) is not None:
                    _obey(serving, log, *taken)
            serving.close()


def _obey(serving: Any, log: Any, command: int, asked: dict[str, Any]) -> None:
    key = next((part['key'] for part in asked['args'] if isinstance(part, dict) and 'key' in part), '')
    log.write(took=key, message=asked['message'])
    time.sleep(random.random() ** 6 * 0.3)  # mostly at once, sometimes late
    if random.random() < 0.1:  # noqa: PLR2004
        log.write(failed=key, code=serving.fail(command, f'no film for {key}'))
    else:
        log.write(answered=key, code=serving.answer(command, {'key': key}))


def master(log: Any, name: str, port: int) -> None:
    """Be a master until killed, or until standard input ends."""
    import select

    print('ready', flush=True)
    number = 0
    while not select.select([sys.stdin], [], [], random.expovariate(1 / PACE))[0]:
        with _ours(port) if name.startswith('ours') else _stock(port) as ask:
            for _ in range(random.randint(1, 40)):
                number += 1
                message = 'EXPINTERRUPT' if random.random() < 0.05 else random.choice(MESSAGES)  # noqa: PLR2004
                key = f'{name}-{number}'
                log.write(asks=key, message=message)
                kind, what = ask(message, *([REF] if message == 'EXPSTART' else []), {'key': key})
                log.write(**{kind: key}, what=what)
                if kind == 'nothing' or (kind == 'failed' and name.startswith('stock')):
                    break  # a stock master waits on for a reply, and takes the next one for it
                if select.select([sys.stdin], [], [], random.expovariate(1 / PACE))[0]:
                    return


@contextlib.contextmanager
def _stock(port: int) -> Iterator[Any]:
    from stock_masters import Stock

    with Stock(port) as stock:
        services = stock.services
        send = {
            'EXPINIT': services.init, 'EXPSTART': services.start, 'EXPEND': services.stop,
            'EXPCLEANUP': services.cleanup,
            'EXPINTERRUPT': lambda data: services.stop(data, immediately=True),
        }  # fmt: skip

        def ask(message: str, *args: Any) -> tuple[str, Any]:
            asked = stock.begin(send[message](*args))
            while True:
                with contextlib.suppress(futures.TimeoutError):
                    try:
                        return 'replied', asked.result(0.01)['cameras']
                    except futures.TimeoutError:
                        if asked.done():  # iblutil's own
                            return 'nothing', 'it says nothing'
                    except Exception as error:
                        return 'nothing', repr(error)
                if failed := [data[0] for event, data in stock.told if event == 0]:
                    asked.cancel()
                    return 'failed', failed[0]

        yield ask


@contextlib.contextmanager
def _ours(port: int) -> Iterator[Any]:
    import logging

    from bridge.auxiliaries import Auxiliaries

    class Quiet(Auxiliaries):
        logger = logging.getLogger('quiet')

    Quiet.logger.disabled = True
    auxiliaries = Quiet({LISTENER: f'udp://127.0.0.1:{port}'})

    def ask(message: str, *args: Any) -> tuple[str, Any]:
        outcome = auxiliaries.submit(message, *args).result(30)[LISTENER]
        if outcome.reply is not None:
            return 'replied', list(outcome.reply)
        return ('failed' if outcome.reason.value == 'callback_failed' else 'nothing'), outcome.error

    try:
        yield ask
    finally:
        auxiliaries.close()


# --- the judgement ---


def judge(
    masters: Sequence[dict[str, Any]], camera: Sequence[dict[str, Any]], gaps: Sequence[tuple[int, int]]
) -> Iterator[str]:
    """Hold what masters were told and what the camera did against each other.

    Parameters
    ----------
    masters, camera : sequence of dict
        What they wrote down.
    gaps : sequence of (int, int)
        From when to when no worker lived, ns.
    """
    asks = {entry['asks']: entry for entry in masters if 'asks' in entry}
    took = Counter(entry['took'] for entry in camera if 'took' in entry)
    said = {entry.get('answered') or entry.get('failed'): entry for entry in camera if 'code' in entry}
    for key, times in took.items():
        if key not in asks:
            yield f'the camera was asked {key!r}, which no master asked'
        elif times > 1:
            yield f'the camera was asked {asks[key]["message"]} {key} {times} times'
    for kind, key, entry in _ends(masters):
        if key not in asks:
            yield f'{key} was told of, and never asked'
            continue
        disturbed = any(asks[key]['time'] <= end + SLACK and entry['time'] >= begin - SLACK for begin, end in gaps)
        yield from _compared(kind, key, entry['what'], took[key], said.get(key), disturbed=disturbed)
    ends = Counter(key for _, key, _ in _ends(masters))
    yield from (f'{key} was told of {times} times' for key, times in ends.items() if times > 1)


def _ends(masters: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for entry in masters:
        for kind in ('replied', 'failed', 'nothing'):
            if kind in entry:
                yield kind, entry[kind], entry


def _compared(
    kind: str, key: str, what: Any, taken: int, said: dict[str, Any] | None, *, disturbed: bool
) -> Iterator[str]:
    counts = said is not None and said['code'] >= 0
    if kind == 'replied':
        if not taken:
            yield f'{key} was replied to, and the camera never took it'
        elif json.dumps(key) not in json.dumps(what):
            yield f'{key} was told the reply to another: {what}'
        elif said is not None and not (counts and 'answered' in said):  # else it was killed before it wrote that down
            yield f'{key} was replied to, but the camera was told {said["code"]}'
    elif kind == 'failed':
        if taken and any(sentence in what for sentence in UNDONE):
            yield f'{key} was told "{what}", and the camera took it'
        if counts and said is not None and 'answered' in said and not (disturbed and UNKNOWN in what):
            yield f'{key} was told "{what}", and the camera that its answer counts'
        if UNKNOWN in what and not disturbed:
            yield f'{key} was told "{what}", and no worker had died'
    elif not disturbed:
        yield f'{key} was told nothing ({what}), and no worker had died'
    if said is not None and said['code'] == LATE and kind == 'replied':
        yield f'{key} was replied to, and the camera told that it was too late'


def main(kind: str, path: Path, name: str, port: int) -> None:
    """Run one of the processes."""
    from soaking import Log

    (film(Log(path), name) if kind == 'camera' else master(Log(path), name, port))
