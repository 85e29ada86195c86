"""A program that serves, and the worker that asks it, each killed after every single access of shared memory.

Each command is answered once, or reported as withdrawn or gone once, never both; and whoever comes next goes on. So it
is if the program only stands still there for a while, by SIGSTOP, and goes on.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCONT, SIGKILL

import pytest
from actors import CSRC, KILLED, Line, Rig, build, folder_in_memory, need_compiler, until
from points import Rigs

LATE = -8056
STANDSTILL = 0.05  # s for which a program is stopped, longer than the worker waits for a late answer


@pytest.fixture(scope='module')
def folder() -> Iterator[Path]:
    """A directory in memory."""
    need_compiler()
    with folder_in_memory('serving') as path:
        yield path


@pytest.fixture(scope='module')
def rigs(folder: Path) -> Iterator[Rigs]:
    rigs = Rigs(build(folder, actor='serving'), folder)
    yield rigs
    rigs.close()


class Life:
    """A worker that asks a program, and whoever takes the place of one that was killed."""

    def __init__(
        self, rig: Rig, at: dict[str, str], count: dict[str, Path] | None = None, *, action: str = 'exit'
    ) -> None:
        self.rig, self.at, self.count, self.action = rig, at, count or {}, action
        self.stopped, self.closed = 0, 0  # programs
        self.done = threading.Event()
        self.killed: Counter[str] = Counter()
        self.codes: list[int | None] = []
        self._program = None

    def _fault(self, role: str) -> dict[str, object]:
        return {'at': self.at.pop(role, ''), 'count': self.count.pop(role, None), 'action': self.action}

    def _keep_program(self) -> None:
        number = 0
        while not self.done.is_set():
            self._program = self.rig.start('program', f'program-{number}', **self._fault('program'))
            code = self._program.wait(stops=True)
            if code is None:
                self._stands_still()
                self._program.send(SIGCONT)
                code = self._program.wait()
            self.closed += code == 0
            self.killed['program'] += code == KILLED  # also one that we see when the worker is done
            if not self.done.is_set():
                self.codes.append(code)
            number += 1

    def _stands_still(self) -> None:
        self.stopped += 1
        self.done.wait(STANDSTILL)

    def _everything_was_said(self) -> bool:
        """Whether the program that heard of the end has closed, and what the worker heard is in the programs' log, too.

        The worker may hear an answer, and end, before the program that gave it has come back from the call.
        """
        commands = defaultdict(set)
        for line in self.rig.lines():
            commands[line.what].add(line.command)
        closed = self.closed and commands['heard'] | commands['again'] <= commands['said']
        return bool(self.killed['program'] or closed)

    def run(self) -> list[str]:
        """Return what was broken."""
        thread = threading.Thread(target=self._keep_program)
        thread.start()
        while (code := self.rig.start('worker', **self._fault('worker')).wait()) == KILLED:
            self.killed['worker'] += 1
        self.done.set()
        until(self._everything_was_said, self.rig.patience)
        while thread.is_alive():
            if self._program is not None:
                self._program.send(SIGKILL)  # the one that would serve on; perhaps one that was just started
            thread.join(0.05)
        wrong = [f'a program ended with {code}' for code in self.codes if code not in (0, KILLED)]
        wrong += [f'the worker ended with {code}'] if code != 0 else []
        lines = self.rig.lines()
        self.killed['worker while it withdrew'] = sum(
            line.what == 'died' and line.who == 'worker' and line.rest[0] == 'withdraw' for line in lines
        )
        return wrong + verdict(lines, self.killed)


def verdict(lines: Iterable[Line], killed: Counter[str]) -> list[str]:
    """Return every broken promise, as sentences."""
    found, said = [], defaultdict(Counter)
    codes: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        if line.what == 'wrong':
            found.append(f'{line.who}: {line.command} {" ".join(line.rest)}')
        elif line.command != '-':
            said[line.command][line.what] += 1
            if line.what == 'said':
                codes[line.command].append(int(line.rest[0]))
    for number, count in said.items():
        found += [f'{number}: {sentence}' for sentence in _broken(count, codes[number], killed)]
    return found


def _broken(count: Counter[str], codes: list[int], killed: Counter[str]) -> Iterator[str]:
    done = [code for code in codes if code >= 0]
    heard = count['heard'] or count['again']
    ends = [what for what in ('withdrawn', 'gone') if count[what]]
    if count['took'] > 1:
        yield f'taken {count["took"]} times'
    if len(codes) > 1:
        yield f'answered {len(codes)} times'
    if any(count[what] > 1 for what in ('heard', 'withdrawn', 'gone', 'inherited')) and not killed['worker']:
        yield f'told more than once: {dict(count)}'
    if count['heard'] > 1 or (count['again'] and not killed['worker']):
        yield f'its answer was heard {count["heard"]} times'
    if len(ends) + bool(heard) > 1:
        yield f'both {" and ".join(ends)}{" and answered" if heard else ""}'
    if done and not heard:
        yield 'answered, and no worker heard it'
    if LATE in codes and heard:
        yield 'too late, and heard all the same'
    if LATE in codes and not count['withdrawn'] and not killed['worker']:
        yield 'too late, and nobody had withdrawn it'
    if heard and not done and not killed['program']:
        yield 'heard, and nobody had answered it'
    if not heard and not ends and not killed['worker while it withdrew']:  # which can tell nobody of it
        yield 'nobody was told what became of it'


def points_of(rigs: Rigs) -> dict[str, list[str]]:
    """Return the points that either side passes, as section:number."""
    most: dict[str, Counter[str]] = {'program': Counter(), 'worker': Counter()}
    for _ in range(3):
        rig = rigs.make(2)
        files = {role: rig.folder / f'{role}.count' for role in most}
        assert Life(rig, {}, dict(files)).run() == []
        for role, file in files.items():
            most[role] |= Counter(line.rsplit(' ', 1)[0] for line in file.read_text().splitlines())
        assert sum(line.what == 'heard' for line in rig.lines()) == 10
        rig.close()
    return {
        role: [f'{s}:{n}' for s, total in count.items() for n in range(1, total + 1)] for role, count in most.items()
    }


@pytest.fixture(scope='module')
def points(rigs: Rigs) -> dict[str, list[str]]:
    return points_of(rigs)


def at_each(
    rigs: Rigs, role: str, points: Iterable[str], *, quick: bool = False, action: str = 'exit', life: type[Life] = Life
) -> tuple[list[str], int]:
    """Kill or stop this side at each point, in a rig of its own; return what was broken, and how often that was."""
    found: list[str] = []
    kills = 0

    def one(point: str) -> int:
        if quick and found:
            return 0
        rig = rigs.make(2)
        lived = life(rig, {role: point}, action=action)
        found.extend(f'{role} {point}: {sentence}' for sentence in lived.run())
        rig.close()
        return lived.killed[role] if action == 'exit' else lived.stopped

    with ThreadPoolExecutor(rigs.host.lanes) as pool:
        kills = sum(pool.map(one, points))
    return found, kills


def tried(points: list[str], sections: Iterable[str]) -> list[str]:
    """The points of what serving is about; what opens, takes and closes is killed elsewhere."""
    return [point for point in points if point.split(':')[0] in sections]


PROGRAM = ('serve', 'next', 'answer', 'token', 'fail', 'tell', 'late', 'close')
WORKER = ('inherit', 'listen', 'server of', 'hand', 'state', 'withdraw', 'hear')


@pytest.mark.timeout(900)
def test_a_program_may_die_at_any_point_of_what_it_serves(rigs, points):
    mine = tried(points['program'], PROGRAM)
    found, kills = at_each(rigs, 'program', mine)
    print(f'\nprogram: {len(mine)} points, {kills} kills, {len(found)} broken promises')
    assert not found, '\n'.join(found[:20])
    assert kills > 150
    assert kills > 0.7 * len(mine)


@pytest.mark.timeout(900)
@pytest.mark.parametrize('every', [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_program_may_stand_still_at_any_point_of_what_it_serves(rigs, points, every):
    mine = tried(points['program'], PROGRAM)[::every]
    found, stops = at_each(rigs, 'program', mine, action='stop')
    print(f'\nprogram: {len(mine)} points, {stops} stops, {len(found)} broken promises')
    assert not found, '\n'.join(found[:20])
    assert stops > 0.7 * len(mine) > 35


class SeenLate(Life):
    """Sees that the program stands still only after the worker heard the last answer and ended, if it did."""

    late = 0

    def _stands_still(self) -> None:
        if self.done.wait(1.0):
            SeenLate.late += 1
            time.sleep(STANDSTILL)  # time in which the program could be killed for one that serves on
        super()._stands_still()


def test_a_program_that_stands_still_behind_its_last_answer_is_not_killed_before_it_says_so(rigs, points):
    last = tried(points['program'], ['answer'])[-30:]  # how many points a life passes varies
    found, _ = at_each(rigs, 'program', last, action='stop', life=SeenLate)
    assert not found, '\n'.join(found)
    assert SeenLate.late


@pytest.mark.timeout(900)
def test_a_worker_may_die_at_any_point_of_what_it_asks(rigs, points):
    mine = tried(points['worker'], WORKER)
    found, kills = at_each(rigs, 'worker', mine)
    print(f'\nworker: {len(mine)} points, {kills} kills, {len(found)} broken promises')
    assert not found, '\n'.join(found[:20])
    assert kills > 150
    assert kills > 0.7 * len(mine)


BUGS = {
    'published before it is decided who was first': (
        'program',
        'answering.c',
        r'code = swap_to_answered\(handle, open, problem\);\n(\s+)if \(code == IBLB_OK\)\n'
        r'\s+code = publish\(handle, &space, problem\);',
        r'code = publish(handle, &space, problem);\n\1code = swap_to_answered(handle, open, problem);\n'
        r'if (code == IBLB_OK)\n ;',
    ),
    'what is withdrawn is answered all the same': (
        'program',
        'answering.c',
        r'return problem_standard\(problem, IBLB_E_LATE\);\n(\s+return problem_set)',
        r'return IBLB_OK;\n\1',
    ),
    'what the program had is forgotten by a new worker': (
        'worker',
        'incoming.c',
        r'if \(!asked_is_open\(control\)\)\n(\s+continue;\n\s+struct)',
        r'if (asked_state(control) != INCOMING_PUBLISHED)\n\1',
    ),
    'answered although the program died over it': (
        'program',
        'incoming.c',
        r'if \(view->phase != PHASE_LIVE \|\| view->generation != incoming->generation\)\n\s+return false;',
        r'if (view->phase != PHASE_LIVE || view->generation != incoming->generation)\n        return true;',
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('bug', BUGS)
def test_a_planted_bug_is_found(bug, points, folder, tmp_path):
    role, name, pattern, replacement = BUGS[bug]
    sources = tmp_path / 'csrc'
    shutil.copytree(CSRC, sources)
    text, changes = re.subn(pattern, replacement, (sources / name).read_text(), count=1, flags=re.DOTALL)
    assert changes == 1, f'{name} has changed: plant this bug anew'
    (sources / name).write_text(text)
    inner = folder / f'planted-{tmp_path.name}'
    inner.mkdir(mode=0o700)
    rigs = Rigs(build(tmp_path, sources, actor='serving'), inner, patience=2.0)
    try:
        found, _ = at_each(rigs, role, tried(points[role], PROGRAM if role == 'program' else WORKER), quick=True)
    finally:
        rigs.close()
    print(f'\nfound: {found[:1]}')
    assert found
