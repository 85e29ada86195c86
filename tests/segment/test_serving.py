"""A program that serves, seen through the library as Python has it; and the whole program of the header, run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from processes import put_the_pc_to_sleep
from sources import CSRC

from bridge.native import LIBRARY, PREFIX
from bridge.numbers import CODES
from bridge.segment.library import ffi, last_error, lib
from bridge.segment.served import Segment
from bridge.segment.serving import Incoming

HEADER = CSRC / 'include' / 'iblbridge.h'


class Worker:
    """A worker that listens, as the library has it, without a network."""

    def __init__(self, names: str = 'cameras') -> None:
        place = ffi.new('struct iblbw_worker **')
        assert lib.iblbw_open(b'rig', 0, 0, 0, 0, 0, place) == 0
        self.worker = place[0]
        lib.iblbw_services(self.worker, b'')
        assert lib.iblbw_listeners(self.worker, names.encode()) == 0
        self.commands = ffi.new('struct iblbw_command[16]')
        self.payload = ffi.new('unsigned char[]', lib.iblbw_largest_command(self.worker))

    def hand(self, number: int, *, stamp: int = 1, timeout: int = 0, **more: Any) -> Any:
        """Hand a command to whoever serves cameras, as soon as somebody does; return its token."""
        deadline = time.monotonic() + 20
        while True:
            code, token = self.try_to_hand(number, stamp, timeout, more)
            if not code:
                return token
            assert code == CODES['IBLB_E_NO_SLOT'] and time.monotonic() < deadline
            lib.iblbw_take(self.worker, self.commands, 16, self.payload, len(self.payload), 5)

    def try_to_hand(self, number: int, stamp: int, timeout: int, more: dict[str, Any]) -> tuple[int, Any]:
        """Return the code that comes of it, and the token."""
        packed = msgpack.packb({'service': 'cameras', 'master': '127.0.0.1:55123', **more})
        token = ffi.new('struct iblbw_incoming *')
        return lib.iblbw_hand(self.worker, b'cameras', number, stamp, timeout, packed, len(packed), token), token

    def heard(self, patience: float = 20.0) -> list[list[Any]]:
        """Return what programs have said, at least one thing."""
        deadline = time.monotonic() + patience
        while True:
            count = lib.iblbw_take(self.worker, self.commands, 16, self.payload, len(self.payload), 100)
            said = []
            for command in self.commands[0 : max(count, 0)]:
                unpacker = msgpack.Unpacker()
                offset = command.payload_offset
                unpacker.feed(bytes(ffi.buffer(self.payload)[offset : offset + command.payload_bytes]))
                assert lib.iblbw_accept(self.worker, ffi.addressof(command)) == 0
                assert lib.iblbw_respond(self.worker, ffi.addressof(command), 0, ffi.NULL, 0) == 0
                said.append([command.message, *unpacker])
            if said or time.monotonic() > deadline:
                return said

    def close(self, *, remove: bool = True) -> None:
        lib.iblbw_close(self.worker, int(remove))


@pytest.fixture
def worker(segment_directory: Path) -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


@pytest.fixture
def program(worker: Worker) -> Iterator[int]:
    handle = ffi.new('int *')
    assert lib.iblb_open(b'rig', b'program', 1000, handle) == 0
    assert lib.iblb_serve(handle[0], ffi.NULL, 255) == 0
    yield handle[0]
    lib.iblb_close(handle[0])


def next_command(handle: int) -> tuple[int, int, int, str]:
    command, message, text = ffi.new('int *'), ffi.new('int *'), ffi.new('char[4096]')
    code = lib.iblb_next_command(handle, 0, command, message, text, 4096, ffi.NULL)
    return code, command[0], message[0], ffi.string(text).decode()


def test_what_a_master_asks_comes_as_json_whatever_it_holds(worker, program):
    args = ['2026-01-01_1_Zoë', {'a': [1, 2.5, None, True, '\U0001f42d', '"\\\n']}, 2**63]
    token = worker.hand(2, message='EXPSTART', args=args, time=1, wall='2026', timeout_ms=8000)
    code, command, message, text = next_command(program)
    assert (code, message) == (0, 2)
    assert text.isascii()
    read = json.loads(text)
    assert next(iter(read)) == 'command' and read.pop('command') == command == token.number
    assert read == {
        'service': 'cameras',
        'master': '127.0.0.1:55123',
        'message': 'EXPSTART',
        'args': args,
        'time': 1,
        'wall': '2026',
        'timeout_ms': 8000,
    }


def test_what_json_cannot_say_is_handed_over_all_the_same(worker, program):
    worker.hand(1, args=[float('nan'), float('inf'), b'bytes'])
    code, _, _, text = next_command(program)
    assert code == 0
    assert json.loads(text)['args'] == [None, None, 'Ynl0ZXM=']


class Nonsense(msgpack.ExtType):
    """A time of msgpack that is none, which Python's reader refuses."""

    def __new__(cls) -> Nonsense:
        return tuple.__new__(cls, (-1, b'x'))


@pytest.mark.parametrize('args', [[Nonsense()], [b'bytes', float('nan'), msgpack.ExtType(5, b'x')]], ids=str)
def test_a_worker_takes_over_whatever_a_program_has_scribbled_into_what_it_was_asked(worker, program, args):
    token = worker.hand(2, args=args)
    worker.close(remove=False)
    with Segment('rig') as segment:
        (inherited,) = Incoming(segment).inherit()
        assert (inherited.token.number, inherited.message) == (token.number, 2)
        assert isinstance(inherited.body, dict)
        worker.worker = ffi.NULL


@pytest.mark.parametrize(
    ('say', 'expected'),
    [
        (lambda h, c: lib.iblb_answer(h, c, -1, ffi.NULL), [-1, False, None]),
        (lambda h, c: lib.iblb_answer(h, c, 20, b' {"frames": 12} '), [20, False, ' {"frames": 12} ']),
        (lambda h, c: lib.iblb_answer(h, c, 0, '"Zoë"'.encode()), [0, False, '"Zoë"']),
        (lambda h, c: lib.iblb_fail(h, c, 'Kamera 2 läuft nicht.'.encode()), [-1, True, 'Kamera 2 läuft nicht.']),
    ],
)
def test_an_answer_says_all_that_a_worker_must_know_to_deliver_it(worker, program, say, expected):
    token = worker.hand(2)
    _, command, _, _ = next_command(program)
    assert say(program, command) == 0
    ((message, service, said),) = worker.heard()
    assert (message, service) == (lib.IBLBW_ANSWER, 'cameras')
    assert said == [token.number, 2, '127.0.0.1:55123', *expected]
    assert lib.iblbw_incoming_state(worker.worker, token) == lib.IBLBW_ANSWERED


def test_every_code_that_serving_gives_has_a_sentence_that_helps(worker, program):
    assert lib.iblb_serve(program, b'ephys', 1) == CODES['IBLB_E_SERVICE']
    assert 'there are: cameras' in last_error(program)
    assert lib.iblb_answer(program, 7, -1, ffi.NULL) == CODES['IBLB_E_COMMAND']
    assert 'Command 7' in last_error(program)
    token = worker.hand(2)
    _, command, _, _ = next_command(program)
    assert lib.iblbw_withdraw(worker.worker, token) == 0
    assert lib.iblb_answer(program, command, -1, ffi.NULL) == CODES['IBLB_E_LATE']
    assert 'already told' in last_error(program)


def test_what_the_program_has_just_taken_is_not_recalled_and_its_answer_counts(worker, program):
    waits, taken = worker.hand(2), worker.hand(4)
    assert lib.iblbw_recall(worker.worker, waits) == 0
    assert lib.iblbw_incoming_state(worker.worker, waits) == lib.IBLBW_WITHDRAWN
    _, command, message, _ = next_command(program)
    assert message == 4
    assert lib.iblbw_recall(worker.worker, taken) == 1
    assert lib.iblbw_incoming_state(worker.worker, taken) == lib.IBLBW_TAKEN
    assert lib.iblb_answer(program, command, -1, ffi.NULL) == 0
    assert lib.iblbw_recall(worker.worker, taken) == 1


def test_a_program_that_goes_on_after_its_worker_died_begins_nothing_that_its_master_gave_up(segment_directory):
    """It had stood still; the worker that would have withdrawn the EXPSTART was gone, and the cameras started."""
    worker = Worker()
    handle = ffi.new('int *')
    assert lib.iblb_open(b'rig', b'program', 1000, handle) == 0 and lib.iblb_serve(handle[0], ffi.NULL, 255) == 0
    long_ago = time.perf_counter_ns() - 60 * 10**9
    worker.hand(2, stamp=long_ago, timeout=8000)
    worker.hand(16, stamp=long_ago, timeout=50_000)
    worker.hand(4, stamp=long_ago, timeout=100_000)
    worker.close(remove=False)
    assert next_command(handle[0])[::2] == (0, 4)
    assert next_command(handle[0])[0] == CODES['IBLB_E_NO_WORKER']
    lib.iblb_close(handle[0])


@pytest.mark.parametrize('by', ['the program', 'the worker'])
def test_what_was_asked_before_the_pc_slept_is_not_begun_whoever_sees_that_it_slept(
    segment_directory, worker, program, by
):
    before = worker.hand(2, stamp=time.perf_counter_ns(), timeout=8000)
    put_the_pc_to_sleep(segment_directory / 'rig', 3)
    arrived = time.perf_counter_ns()
    if by == 'the worker':
        assert lib.iblbw_slept(worker.worker) > arrived
    assert next_command(program)[0] == CODES['IBLB_E_TIMEOUT']
    code, _ = worker.try_to_hand(4, arrived, 8000, {})
    assert code == CODES['IBLB_E_EXPIRED'], 'it waited in the worker while the PC slept'
    assert lib.iblbw_recall(worker.worker, before) == 0
    worker.hand(4, stamp=time.perf_counter_ns(), timeout=8000)
    assert next_command(program)[::2] == (0, 4)


def whole_program() -> str:
    """The program in the header's section on serving, with what it leaves to its reader."""
    section = HEADER.read_text().split('---- Serving:')[1]
    (block,) = re.findall(r'^ \* A whole program, .*:\n \*\n(.*?)^ \*/$', section, re.MULTILINE | re.DOTALL)
    body = textwrap.dedent(re.sub(r'^ \* ?', '', block, flags=re.MULTILINE)).replace('rig0', 'rig')
    return (
        '#include <stdio.h>\n#include "iblbridge.h"\n'
        'static int start_cameras(const char *json) { return json[0] == 0; }\n'
        f'int main(void) {{\n{body}\nputs(text);\nreturn 0;\n}}\n'
    )


@pytest.mark.parametrize('language', ['c89', 'c++98'])
def test_the_whole_program_of_the_header_is_one(worker, tmp_path, language):
    compiler = shutil.which('g++' if language == 'c++98' else 'gcc')
    if compiler is None:
        pytest.skip(f'there is no compiler of {language}')
    source, built = tmp_path / ('program.cpp' if language == 'c++98' else 'program.c'), tmp_path / 'program'
    source.write_text(whole_program())
    command = [compiler, f'-std={language}', '-pedantic', '-Wall', '-Werror', f'-I{PREFIX / "include"}']
    subprocess.run([*command, source, LIBRARY, f'-Wl,-rpath,{LIBRARY.parent}', '-o', built], check=True)
    with subprocess.Popen([built], stdout=subprocess.PIPE, text=True) as process:
        for message, failed, data in [
            (1, False, None),
            (2, True, 'Camera 2 does not answer.'),
            (4, False, '{"frames": 5400}'),
            (16, False, None),
        ]:
            token = worker.hand(message)
            ((_, _, said),) = worker.heard()
            assert said == [token.number, message, '127.0.0.1:55123', -1, failed, data]
        assert lib.iblbw_listeners(worker.worker, b'ephys') == 0  # it is not wanted any more, and ends
        out, _ = process.communicate(timeout=20)
    assert 'does not listen as "cameras" any more' in out
    assert process.returncode == 0
