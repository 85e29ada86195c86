"""Kills programs, the worker and services at random, and judges what was told by what was done.

    python tests/soaking.py --seconds 600 [--seed 1] [--keep FOLDER] [--both]

Everything is as on a rig: ``iblbridge serve`` with a journal, programs with `bridge.Client`, services of plain iblutil,
each a process of its own. All of them write down what they do, in lines that are whole whenever they are killed:

- a service: each command that it hears, before it answers;
- a program: what it is about to send, and what it was told;
- the worker: its journal.

A command carries a key in its data, so that the three can be held against each other, see `judge`. Exit status 1 if
they disagree. With ``--both``, the worker is a service as well, see `soaking_both`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soaking_both
from peers import free_port

SERVICES, PROGRAMS = ('cameras', 'ephys'), 3
PACE = 0.05  # s between the commands of a program, on average
# s until the next one is killed
LIVES = {
    'service': (2.0, 6.0),
    'program': (1.0, 4.0),
    'worker': (4.0, 9.0),
    'camera': (2.0, 8.0),
    'master': (2.0, 9.0),
}
TIMEOUT = 4.0  # s, for a service's reply
# Times that these may be sent: once more, and behind each answer that the service still owed (rule 7 of an exchange).
REPEATED = {'EXPINFO': 6, 'EXPINTERRUPT': 3}
UNDECIDED = ('IBLB_E_OUTCOME_UNKNOWN', 'IBLB_E_PENDING', 'IBLB_E_TIMEOUT', 'IBLB_E_NO_WORKER')


class Log:
    """Lines of JSON that are whole whenever their writer is killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **entry: Any) -> None:
        """Append an entry, in one system call."""
        os.write(self._file, json.dumps(entry | {'time': time.perf_counter_ns()}).encode() + b'\n')


def read(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a log or journal; what a kill has torn is left out."""
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


# --- the processes ---


def serve(path: str, port: str) -> None:
    """Be a service of plain iblutil until killed, or until its communicator has closed itself."""
    from iblutil.io import net

    log = Log(Path(path))

    async def run() -> None:
        quiet = logging.Logger('quiet', logging.CRITICAL)
        server = await net.app.EchoProtocol.server(f'udp://127.0.0.1:{port}', name='peer', log=quiet)
        said = asyncio.Lock()
        state = {'status': 0, 'exp_ref': None}
        after = {'EXPINIT': 10, 'EXPSTART': 20, 'EXPEND': 30, 'EXPINTERRUPT': 30, 'EXPCLEANUP': 0}

        def hear(message: Any, data: list[Any], addr: Any) -> None:
            keys = [part['key'] for part in data if isinstance(part, dict) and 'key' in part]
            log.write(heard=message.name, key=keys[0] if keys else '')
            state['status'] = after.get(message.name, state['status'])
            info = {**state, 'key': keys[0] if keys else ''}
            reply = {'EXPSTATUS': [state['status']], 'EXPINFO': [state['status'], info]}.get(message.name, [info])
            if message.name == 'EXPSTART':
                reply = [data[0], info]
            asyncio.ensure_future(answer([int(message), *reply], addr))

        async def answer(message: list[Any], addr: Any) -> None:
            async with said:
                await asyncio.sleep(random.random() ** 4 * 0.2)  # mostly at once, sometimes late
                with contextlib.suppress(RuntimeError, asyncio.TimeoutError, TimeoutError):
                    await server.confirmed_send(message, addr=addr)

        for message in net.base.ExpMessage:
            server.assign_callback(message, lambda data, addr, message=message: hear(message, data, addr))
        print('ready', flush=True)
        while server.is_connected:
            await asyncio.sleep(0.02)
        log.write(closed=True)

    asyncio.SelectorEventLoop().run_until_complete(run())


def command(path: str, name: str) -> None:
    """Be a program that sends and waits until killed, or until its standard input ends."""
    import select

    from bridge.errors import BridgeError
    from bridge.segment.client import Client

    log = Log(Path(path))
    print('ready', flush=True)
    number = 0
    while not select.select([sys.stdin], [], [], random.expovariate(1 / PACE))[0]:
        with contextlib.suppress(BridgeError), Client('rig', name, timeout=5) as client:
            for _ in range(random.randint(1, 40)):
                number += 1
                one(client, log, f'{name}-{number}')
                if select.select([sys.stdin], [], [], random.expovariate(1 / PACE))[0]:
                    return


def one(client: Any, log: Log, key: str) -> None:
    """Send one command, wait for its answer, and write down both."""
    from bridge.errors import BridgeError

    data = {'key': key}
    message, *args = random.choice(
        [
            ('EXPINIT', data),
            ('EXPSTART', '2026-01-01_1_subject', data),
            ('EXPEND', data),
            ('EXPCLEANUP', data),
            ('EXPINFO', 0, data),
        ]
        * 4
        + [('EXPINTERRUPT', data)]
    )
    services = random.choice([None, None, ['cameras'], ['ephys']])
    log.write(sends=key, message=message, services=services or list(SERVICES))
    if random.random() < 0.1:  # noqa: PLR2004
        with contextlib.suppress(BridgeError):
            client.notify(message, *args, services=services, ttl=5)
        return
    request, body, code = 0, None, 'IBLB_OK'
    for attempt in range(4):  # a new worker answers what is open
        try:
            request = request or client.send(message, *args, services=services, ttl=5)
            body = client.wait(request, 20)
            code = 'IBLB_OK'
            break
        except BridgeError as error:
            body, code = error.response, error.name
            if not request or body is not None or code not in ('IBLB_E_NO_WORKER', 'IBLB_E_TIMEOUT'):
                break
            time.sleep(attempt)
    log.write(told=key, code=code, body=body)


class Process:
    """One of the processes above, or the worker; ready when it says so."""

    def __init__(self, *words: object, errors: Path) -> None:
        with errors.open('ab') as stream:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen([*map(str, words)], stdin=pipe, stdout=pipe, stderr=stream, text=True)
        self.ready_at = 0  # ns
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().lower().startswith('ready'):
            self.ready_at = time.perf_counter_ns()

    @property
    def lives(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    def end(self, patience: float) -> bool:
        """Close its standard input and wait for its end; True if it came in time. It is killed otherwise."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(patience)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill it, and take note of that."""
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


# --- the run ---


@dataclass
class Report:
    """What a soak came to."""

    deaths: Counter[str] = field(default_factory=Counter)
    closed: int = 0  # services among them that closed themselves
    commands: int = 0
    told: Counter[str] = field(default_factory=Counter)
    heard: int = 0
    journaled: int = 0
    asked: Counter[str] = field(default_factory=Counter)  # what masters were told, in the other direction
    wrong: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return it as text."""
        rows = [
            ('killed', ', '.join(f'{count} {what}s' for what, count in self.deaths.items())),
            ('of these services that closed themselves', self.closed),
            ('commands', self.commands),
            ('told', ', '.join(f'{count} {code}' for code, count in self.told.most_common())),
            ('heard by services', self.heard),
            ('journaled', self.journaled),
            ('masters', ', '.join(f'{count} {what}' for what, count in self.asked.most_common()) or 'none'),
            ('wrong', len(self.wrong)),
        ]
        return '\n'.join(f'{name:32} {value}' for name, value in rows)


def soak(folder: Path, seconds: float, seed: int = 1, *, both: bool = False) -> Report:
    """Run it all in a folder, for so many seconds, and judge it; `both`: with masters and a camera."""
    dice, report = random.Random(seed), Report()
    ports = {name: free_port() for name in SERVICES}
    (folder / 'services.yaml').write_text(
        ''.join(f'{name}: {{uri: "udp://127.0.0.1:{port}", timeout: {TIMEOUT}}}\n' for name, port in ports.items())
    )
    os.environ['IBLBRIDGE_DIR'] = str(folder / 'segments')
    (folder / 'segments').mkdir(mode=0o700)
    journal = folder / 'journal'
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--services', folder / 'services.yaml']
    port = free_port()
    words += ['--listen', f'{soaking_both.LISTENER}=udp://127.0.0.1:{port}'] if both else []

    def start(kind: str, name: str) -> Process:
        is_stock = kind == 'service' or name.startswith('stock')  # iblutil complains of ports that are closed
        errors = folder / ('errors-of-iblutil' if is_stock else 'errors')
        if kind == 'worker':
            return Process(*words, '--journal', journal, '--until-eof', errors=errors)
        last = ports[name] if kind == 'service' else name if kind == 'camera' else f'{name}-{next_life()}'
        if kind in ('camera', 'master'):
            return Process(sys.executable, __file__, kind, folder / f'{kind}-{name}', last, port, errors=errors)
        return Process(sys.executable, __file__, kind, folder / f'{kind}-{name}', last, errors=errors)

    lives = iter(range(1, 10**6))

    def next_life() -> int:
        return next(lives)

    kinds = [*(('service', name) for name in SERVICES), ('worker', 'rig')]
    kinds += [('program', f'p{number}') for number in range(PROGRAMS)]
    if both:
        kinds += [('camera', 'camera'), *(('master', name) for name in soaking_both.MASTERS)]
    killed: list[int] = []  # ns: when a worker was
    ready: list[int] = []  # ns: when one was ready
    running = {which: start(*which) for which in kinds}
    due = dict.fromkeys(kinds, 0.0)  # time.monotonic; 0: not decided yet
    began = time.monotonic()

    def is_enough() -> bool:  # on a busy machine, one of each kind has to be killed all the same
        passed = time.monotonic() - began
        return passed > seconds and (all(report.deaths[kind] for kind, _ in kinds) or passed > seconds + 120)

    try:
        while not is_enough():
            for which, process in tuple(running.items()):
                if process.lives and not due[which] and process.ready_at:
                    due[which] = time.monotonic() + dice.uniform(*LIVES[which[0]])
                    ready += [process.ready_at] * (which[0] == 'worker')
                if process.lives and not 0 < due[which] < time.monotonic():
                    continue
                report.deaths[which[0]] += 1
                killed += [time.perf_counter_ns()] * (which[0] == 'worker')
                process.kill()
                running[which], due[which] = start(*which), 0.0
            time.sleep(0.02)
        for which, process in running.items():
            if which[0] in ('program', 'master') and not process.end(90):
                report.wrong.append(f'{which[1]} does not end: a wait hangs')
        if both and not running['camera', 'camera'].end(30):
            report.wrong.append('the camera does not end: a wait hangs')
        ready.append(running['worker', 'rig'].ready_at)
        if not running['worker', 'rig'].end(60):
            report.wrong.append('the worker does not stop')
    finally:
        for process in running.values():
            process.kill()
    sent = [
        entry for name in (f'p{number}' for number in range(PROGRAMS)) for entry in read(folder / f'program-{name}')
    ]
    heard = {name: read(folder / f'service-{name}') for name in SERVICES}
    gaps = [(gone, min((at for at in ready if at > gone), default=gone)) for gone in killed]
    judge(report, sent, heard, read(journal), gaps)
    if both:
        told = [entry for name in soaking_both.MASTERS for entry in read(folder / f'master-{name}')]
        for kind in ('replied', 'failed', 'nothing'):
            report.asked[kind] = sum(kind in entry for entry in told)
        report.wrong += soaking_both.judge(told, read(folder / 'camera-camera'), [(0, ready[0]), *gaps])
    return report


# --- the judgement ---


def judge(
    report: Report,
    programs: Sequence[dict[str, Any]],
    services: dict[str, list[dict[str, Any]]],
    journal: Sequence[dict[str, Any]],
    killed: Sequence[tuple[int, int]],
) -> None:
    """Hold what programs were told, what services heard and what is journaled against each other."""
    messages = {entry['sends']: entry['message'] for entry in programs if 'sends' in entry}
    told = [entry for entry in programs if 'told' in entry]
    heard = {name: Counter(e['key'] for e in log if e.get('key')) for name, log in services.items()}
    report.closed = sum('closed' in entry for log in services.values() for entry in log)
    report.commands, report.told = len(messages), Counter(entry['code'] for entry in told)
    report.heard, report.journaled = sum(map(sum, (c.values() for c in heard.values()))), len(journal)
    report.wrong += _heard_twice(heard, messages)
    for entry in told:
        report.wrong += _told_and_heard(entry, heard)
    report.wrong += _journaled(journal, told, killed)


def _heard_twice(heard: dict[str, Counter[str]], messages: dict[str, str]) -> Iterator[str]:
    for name, keys in heard.items():
        for key, times in keys.items():
            most = REPEATED.get(messages.get(key, ''), 1)
            if key not in messages:
                yield f'{name} heard {key}, which nobody sent'
            elif times > most:
                yield f'{name} heard {messages[key]} {key} {times} times'


def _told_and_heard(entry: dict[str, Any], heard: dict[str, Counter[str]]) -> Iterator[str]:
    key, body = entry['told'], entry['body']
    for service in body['services'] if body else ():
        times, state = heard[service['name']][key], service['state']
        if service['ok'] and not times:
            yield f'{key} is ok at {service["name"]}, which never heard it'
        if service['ok'] and (value := _key_of(service['data'])) not in (None, key):
            yield f'{key} was told the answer to {value}'
        if state == 'not_sent' and times:
            yield f'{key} was not sent to {service["name"]}, which heard it'
    if not body and entry['code'] not in UNDECIDED and any(keys[key] for keys in heard.values()):
        yield f'{key} ended with {entry["code"]}, and was heard'


def _key_of(data: Any) -> Any:
    """Return the key in what a service replied."""
    if isinstance(data, dict):
        return data.get('key') or next((key for value in data.values() if (key := _key_of(value))), None)
    if isinstance(data, list):
        return next((key for value in data if (key := _key_of(value))), None)
    return None


def _journaled(
    journal: Sequence[dict[str, Any]], told: Sequence[dict[str, Any]], killed: Sequence[tuple[int, int]]
) -> Iterator[str]:
    """Compare outcomes; those that a kill of the worker fell into may be journaled by none or both of the two."""
    outcomes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    commands: Counter[str] = Counter()
    for entry in journal:
        if entry['kind'] == 'command':
            commands[entry['command_id']] += 1
        elif entry['kind'] in ('outcome', 'notification'):
            outcomes[entry['command_id']].append(entry)

    def is_disturbed(entry: dict[str, Any]) -> bool:
        return any(entry['sent'] <= end and entry['finished'] >= begin - 500_000_000 for begin, end in killed)

    for key, entries in outcomes.items():
        calm = [entry for entry in entries if not is_disturbed(entry)]
        if calm and (len(entries), commands[key]) != (1, 1):
            yield f'{key} is journaled as {commands[key]} commands with {len(entries)} outcomes'
    said = {(entry['command_id']): entry for entries in outcomes.values() for entry in entries[-1:]}
    for entry in told:
        body = entry['body']
        if body is None or is_disturbed(body):
            continue
        written = said.get(body['command_id'])
        if written is None:
            yield f'{entry["told"]} has no outcome in the journal'
        elif _what(written) != _what(body):
            yield f'{entry["told"]} was told {_what(body)}, the journal says {_what(written)}'


def _what(body: dict[str, Any]) -> Any:
    return body['code'], [(service['name'], service['ok'], service['state']) for service in body['services']]


def main() -> int:
    """Run one of the processes, or all of them."""
    if sys.argv[1:2] in (['camera'], ['master']):
        kind, path, name, port = sys.argv[1:]
        soaking_both.main(kind, Path(path), name, int(port))
        return 0
    if sys.argv[1:2] in (['service'], ['program']):
        program: Callable[[str, str], None] = serve if sys.argv[1] == 'service' else command
        program(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=600.0)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--both', action='store_true', help='let masters command a camera meanwhile')
    parser.add_argument('--keep', metavar='FOLDER', help='leave logs and journal there')
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(options.keep or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        report = soak(folder, options.seconds, options.seed, both=options.both)
    print(report.table(), *report.wrong[:50], sep='\n')
    return bool(report.wrong)


if __name__ == '__main__':
    raise SystemExit(main())
