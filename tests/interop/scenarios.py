"""What every client has to stand, whatever its language: a small program per language does it, the checks are here.

A program is started with the name of a scenario and the segment, and prints a few lines (`Scenarios` says which). The
test class of a language inherits from `Scenarios` and gives `start` and `snippet`.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from guides import environment
from peers import ScriptedPeer, echo_and_reply, eventually, free_port
from processes import kill

from bridge.cli.demo.children import Child, Rig
from bridge.config import ServiceConfig
from bridge.native import LIBRARY
from bridge.numbers import CODES

WHOLE = [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**53 - 1]  # of which a double knows the last
DIED = 'The worker died with the command. Start it again and wait for the same request; do not repeat the command.'
PATIENCE = 30.0  # s, for a line of a program


class Program:
    """A running program, whose lines are read as they come; killed at the end of its context.

    Parameters
    ----------
    words : sequence
        The program and its arguments.
    place : Path
        Where it runs.
    **more : str
        Environment variables.
    """

    def __init__(self, words: Sequence[object], place: Path, **more: str) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in words],
            cwd=place,
            env={**environment(), **more},
            text=True,
            encoding='utf-8',
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors = ''
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip('\n'))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors = self.process.stderr.read()

    def line(self) -> str:
        """Return its next line; fails if it ends instead."""
        line = self._lines.get(timeout=PATIENCE)
        assert line is not None, f'it ended: {self.end()}'
        return line

    def says(self) -> Any:
        """Return its next line, read as JSON."""
        return json.loads(self.line())

    def end(self) -> tuple[int, str]:
        """Wait until it has ended, and return exit status and standard error."""
        status = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return status, self._errors

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def heard(rig: Rig, service: str, message: str) -> None:
    """Return when a service has received a message."""
    eventually(lambda: any(f': {message} ' in line for line in list(rig.children[service].output)), PATIENCE)


def new_worker(rig: Rig) -> None:
    """Start the worker of a rig once more, after its death."""
    old = rig.children['worker']
    words = old.process.args
    assert isinstance(words, list)
    worker = Child('worker', *words[words.index('serve') : words.index('--until-eof')])
    rig.children['worker'] = worker
    eventually(lambda: worker.ready, PATIENCE)
    old.end()


def first_snippet(place: Path, language: str) -> str:
    """Return the first block of code in a language that the guide of a kit shows."""
    guide = (place / 'README.md').read_text(encoding='utf-8')
    found = re.search(rf'^```{language}\n(.*?)^```', guide, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def wrong_libraries(folder: Path) -> list[object]:
    """Return what IBLBRIDGE_LIBRARY may name by mistake: nothing, no absolute path, no library, another library."""
    text = folder / 'text.so'
    text.write_text('no library')
    return ['/nowhere/lib.so', LIBRARY.name, text, next(Path('/lib').glob('*-linux-gnu/libc.so.6'))]


class Scenarios:
    """The tests of one language. A program prints each line as JSON."""

    MISUSE = 'IBLB_E_ARGUMENT'  # the name of the language's error for a time-out that is none

    @pytest.fixture
    def start(self) -> Callable[..., Program]:
        """Return a function that starts the language's program with a scenario and the segment."""
        raise NotImplementedError

    @pytest.fixture
    def snippet(self) -> Callable[[], Program]:
        """Return a function that starts the program that the guide shows first."""
        raise NotImplementedError

    @pytest.fixture
    def play(self, start) -> Iterator[Callable[..., Program]]:
        with ExitStack() as stack:
            yield lambda *words: stack.enter_context(start(*words, 'rig0'))

    def test_every_code_has_its_name_and_text(self, play, rig):
        rig(cameras=[])
        names = play('codes').says()
        assert {name: int(code) for code, name in names.items()} == dict(CODES)

    def test_an_error_has_code_name_sentence_and_the_response_with_the_good_services_data(self, play, rig):
        # [code, name, sentence, open request, [[service, ok, state, first value] ...] or null]
        rig(cameras=[], ephys=['--refuse', 'EXPSTART'])
        program = play('errors')
        code, name, sentence, request, services = program.says()
        assert (code, name, request) == (-8070, 'IBLB_E_PARTIAL', 0)
        assert 'ephys' in sentence and 'was told to refuse EXPSTART' in sentence
        assert services == [
            ['cameras', True, 'answered', '2026-01-01_1_Mäuschen→x\U0001f42d'],
            ['ephys', False, 'echoed', ''],
        ]
        code, name, sentence, request, services = program.says()
        assert (code, name, request, services) == (-8031, 'IBLB_E_SERVICE', 0, None)
        assert 'has no service "né\U0001f42d"' in sentence
        assert program.says()[:2] == [-8051, 'IBLB_E_REQUEST']
        assert program.says()[:2] == [-8010, 'IBLB_E_NO_SEGMENT']
        assert program.end() == (0, '')

    def test_an_entry_says_why_in_a_word_for_programs_and_what_its_service_says_it_does(self, play, rig):
        running = rig(cameras=[], ephys=[])
        kill(running.children['ephys'].process)
        program = play('reasons')
        # [service, reason, status] of each entry of the response to EXPINIT
        assert program.says() == [['cameras', '', 10], ['ephys', 'refused', -1]]
        assert program.end() == (0, '')

    def test_the_whole_interface_does_what_the_header_says(self, play, rig):
        rig(cameras=[], ephys=['--dies-after', '0.2'])
        program = play('surface')
        assert program.says() == [True, 2]  # worker_state: alive, services
        assert program.says() == ['EXPSTATUS', 0, ['ephys']]  # one service only: message, code, names
        assert program.says() is True  # the stamps are of clock_ns, and in order
        event, number, service, sequence = program.says()  # of the camera that died
        assert (event, number, service) == ('EXPINTERRUPT', 16, 'ephys') and sequence >= 1
        assert program.says() is True  # no second event in time
        assert program.says() == 'notified'
        assert program.end() == (0, '')

    def test_a_response_larger_than_the_buffer_is_never_cut(self, play, rig):
        rig(cameras=[], ephys=[])
        program = play('large')
        assert program.says() == [2, 2]  # whole texts that came back to call, and to send and wait
        assert program.end() == (0, '')

    def test_whole_numbers_of_64_bits_go_and_come_exactly(self, play, serve, server):
        serve('rig0', {'cameras': server.uri})
        program = play('exact')
        assert program.says() == [str(number) for number in WHOLE]  # what came back, as text
        assert program.says() is True  # the stamps are what they always are
        assert program.end() == (0, '')
        assert server.saw == [[1, WHOLE]]

    def test_many_at_once_get_each_their_own_answer(self, play, rig):
        rig(cameras=[], ephys=[])
        program = play('many')
        assert program.says() == 80  # 40 commands, two services
        assert program.end() == (0, '')

    def test_what_is_given_up_ends_at_once_and_the_next_command_works(self, play, rig):
        rig(cameras=['--delay', '60'])
        program = play('cancel')
        assert program.says() == 'cancelled'
        assert program.says() == 0  # the code of the next command's response
        assert program.end() == (0, '')

    def test_a_call_without_an_answer_in_time_is_taken_back_or_says_that_it_is_under_way(self, play, rig):
        rig(cameras=['--delay', '60'])
        program = play('late')
        assert program.says() == [CODES['IBLB_E_PENDING'], 1]  # of a call: the code, the request that stays open
        assert program.says() == [CODES['IBLB_E_NOT_SENT'], 0]  # of one that waited behind it
        assert program.end() == (0, '')

    def test_a_closed_client_ends_the_waits_of_others_and_answers_with_an_error(self, play, rig):
        rig(cameras=['--delay', '60'])
        program = play('close')
        assert program.says() == [-8003, -8003]  # a wait for a response, a wait for an event
        assert program.says() == -8002  # a call after it
        assert program.end() == (0, '')

    def test_no_slot_is_lost(self, play, rig):
        rig(cameras=[])
        program = play('slots')
        assert program.says() == 40  # clients opened one after the other: there are 16 slots
        assert program.end() == (0, '')

    def test_a_worker_that_dies_ends_the_wait_at_once_and_the_request_stays_open(self, play, rig):
        running = rig(cameras=['--delay', '60'])
        program = play('death')
        request = program.says()
        heard(running, 'cameras', 'EXPINIT')
        kill(running.children['worker'].process)
        assert program.says() == [CODES['IBLB_E_NO_WORKER'], 'IBLB_E_NO_WORKER', request]
        assert program.says() == CODES['IBLB_E_NO_WORKER']  # a wait for an event
        new_worker(running)
        assert program.says() == [CODES['IBLB_E_OUTCOME_UNKNOWN'], 0]  # what the wait for the same request gives
        assert program.end() == (0, '')

    def test_a_call_whose_worker_dies_with_the_command_says_so_and_not_that_time_is_up(self, play, rig):
        running = rig(cameras=['--delay', '60'])
        program = play('killed')
        assert program.says() == 'calls'
        heard(running, 'cameras', 'EXPINIT')
        kill(running.children['worker'].process)
        code, sentence, request = program.says()
        assert code == CODES['IBLB_E_PENDING'] and request > 0
        assert DIED in sentence
        assert program.end() == (0, '')

    def test_without_a_worker_a_call_is_withdrawn(self, play, rig):
        running = rig(cameras=[])
        kill(running.children['worker'].process)
        program = play('alone')
        assert program.says() == [CODES['IBLB_W_NO_WORKER'], False]  # the warning of open; is a worker alive?
        assert program.says() == [CODES['IBLB_E_NO_WORKER'], 0]  # of a call: the code, the request that stays open
        new_worker(running)
        assert program.says() == 0  # the code of the next call
        assert program.end() == (0, '')
        assert not any(': EXPSTART ' in line for line in running.children['cameras'].output)

    def test_a_time_out_that_is_none_is_refused_before_anything_is_sent(self, play, rig):
        rig(cameras=[])
        program = play('negative')
        refused = program.says()  # the name of the error, for each function that waits
        assert len(refused) >= 4 and set(refused) == {self.MISUSE}
        assert program.says() == 0  # requests that were made meanwhile: between those of two PINGs
        assert program.end() == (0, '')

    def test_the_first_program_of_the_guide_runs_with_an_optional_service_off(self, snippet, serve):
        # Nothing came from the lamp: what is not there must not end the program.
        lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
        with ScriptedPeer(echo_and_reply) as cameras:
            serve('rig0', [lamp, ServiceConfig('cameras', cameras.uri)], timeout=0.3)
            with snippet() as program:
                lines = [program.line(), program.line()]
                assert program.end() == (0, '')
        assert lines[0].startswith('lamp') and '2026' not in lines[0]
        assert lines[1].startswith('cameras') and '2026-01-01_1_subject' in lines[1]
