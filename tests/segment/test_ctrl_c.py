"""Ctrl-C in a Python program: a wait ends at once, and what it waited for is not lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
from peers import eventually
from systems import APART, PATIENCE, WINDOWS, ctrl_c

from bridge.errors import NoWorker, OutcomeUnknown
from bridge.segment.client import Client
from bridge.segment.library import ffi, lib
from bridge.segment.patience import milliseconds, seconds, slices
from bridge.segment.served import Segment

LONG = 60.0  # s: far more than a test may take
AT_ONCE = 5.0  # s: the bound on a hang

PROGRAM = """
import json
from bridge import Client
try:
    {before}
    print('ready', flush=True)
    {what}
except KeyboardInterrupt as error:
    print(json.dumps([getattr(error, 'request', None), getattr(error, '__notes__', None)]), flush=True)
    {after}
"""


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that hears Ctrl-C as on a terminal; killed at the end."""
    apart: dict[str, Any] = APART if WINDOWS else {'start_new_session': True}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *words], stdout=pipe, stderr=pipe, text=True, **apart)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupted(what: str, before: str = 'pass', after: str = 'pass', when: Callable[[], object] = bool) -> list[Any]:
    """Press Ctrl-C in a program that waits; return the request and the notes of its KeyboardInterrupt, and the rest."""
    with running('-c', PROGRAM.format(what=what, before=before, after=after)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
        when()
        ctrl_c(process)
        out, err = process.communicate(timeout=AT_ONCE * PATIENCE)
        assert err == ''
        return [json.loads(line) for line in out.splitlines()]


def test_a_call_ends_and_its_request_is_told_and_can_still_be_waited_for():
    with Segment('rig') as segment:
        taken: list[Any] = []

        def take() -> None:
            eventually(lambda: taken.extend(segment.take(0.05)[1]) or taken)
            assert segment.accept(taken[0]) == 0

        after = 'print(json.dumps(rig.cancel(error.request))); print(json.dumps("goes on"))'
        said = interrupted(f'rig.call("EXPINIT", timeout={LONG})', 'rig = Client("rig")', after, take)
    (request, notes), *rest = said
    assert request == taken[0].request % 2**31 and rest == [False, 'goes on']
    if sys.version_info >= (3, 11):
        assert notes == [f'Request {request} stays open: wait({request}) for its response, or cancel({request}).']


@pytest.mark.parametrize(
    'what',
    [
        f'rig.wait(rig.send("EXPINIT"), {LONG})',
        'rig.wait(rig.send("EXPINIT"), None)',
        f'rig.next_event({LONG})',
        f'Client("nothing-there", timeout={LONG})',
    ],
)
def test_whatever_waits_ends(what):
    with Segment('rig'):
        said = interrupted(what, 'rig = Client("rig")')
    assert len(said) == 1


def test_waiting_for_a_worker_ends():
    with Segment('rig'):
        pass
    assert interrupted(f'Client("rig", timeout={LONG})') == [[None, None]]


def test_iblbridge_send_ends_and_says_what_became_of_the_command():
    with Segment('rig') as segment, running('-m', 'bridge', 'send', 'rig', 'EXPINIT', '--timeout', '60') as process:
        taken = eventually(lambda: segment.take(0.05)[1], 30)
        ctrl_c(process)
        out, err = process.communicate(timeout=AT_ONCE * PATIENCE)
        assert (process.returncode, out) == (130, '')
        assert 'interrupted: the command was withdrawn; nothing was sent' in err
        assert segment.accept(taken[0]) != 0


def test_iblbridge_send_says_if_the_worker_has_the_command_already():
    with Segment('rig') as segment, running('-m', 'bridge', 'send', 'rig', 'EXPINIT', '--timeout', '60') as process:
        (command,) = eventually(lambda: segment.take(0.05)[1], 30)
        assert segment.accept(command) == 0
        ctrl_c(process)
        _, err = process.communicate(timeout=AT_ONCE * PATIENCE)
        assert process.returncode == 130
        assert 'interrupted: the worker has the command' in err and 'EXPSTATUS' in err


class Interrupting:
    """The library, but Ctrl-C is pressed as one of its functions returns."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.armed = True

    def __getattr__(self, name: str) -> Any:
        function = getattr(lib, name)
        if name != self.function:
            return function

        def call(*args: Any) -> Any:
            result = function(*args)
            if self.armed and result == 0:
                self.armed = False
                raise KeyboardInterrupt
            return result

        return call


def answered(segment: Segment, client: Client) -> int:
    request = client.send('EXPINIT')
    (command,) = segment.take(1)[1]
    segment.respond(command, 0, msgpack.packb({'code': 0, 'error': '', 'services': []}))
    return request


def test_a_response_that_comes_in_that_moment_is_there_for_the_next_wait(monkeypatch):
    with Segment('rig') as segment, Client('rig') as client:
        request = answered(segment, client)
        monkeypatch.setattr('bridge.segment.client.lib', Interrupting('iblb_wait'))
        with pytest.raises(KeyboardInterrupt) as pressed:
            client.wait(request, 1)
        assert pressed.value.request == request
        assert client.wait(request, 1) == {'code': 0, 'error': '', 'services': []}


def test_an_event_that_comes_in_that_moment_is_the_next_one(monkeypatch):
    from test_events import publish

    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe('SERVICE_UP', 'SERVICE_DOWN')
        segment.take(0)
        publish(segment, 'SERVICE_UP')
        publish(segment, 'SERVICE_DOWN')
        monkeypatch.setattr('bridge.segment.client.lib', Interrupting('iblb_next_event'))
        with pytest.raises(KeyboardInterrupt):
            client.next_event(1)
        assert [client.next_event(1)['event'] for _ in range(2)] == ['SERVICE_UP', 'SERVICE_DOWN']


def test_a_command_that_was_just_written_is_known(monkeypatch):
    with Segment('rig') as segment, Client('rig') as client:
        monkeypatch.setattr('bridge.segment.client.lib', Interrupting('iblb_send'))
        with pytest.raises(KeyboardInterrupt) as pressed:
            client.send('EXPINIT')
        assert segment.take(1)[1][0].request % 2**31 == pressed.value.request


def test_a_client_that_was_just_opened_is_closed_again(monkeypatch):
    with Segment('rig'):
        closed: list[int] = []
        library = Interrupting('iblb_open')
        library.iblb_close = lambda handle: closed.append(handle) or lib.iblb_close(handle)
        for module in ('calls', 'client'):
            monkeypatch.setattr(f'bridge.segment.{module}.lib', library)
        with pytest.raises(KeyboardInterrupt):
            Client('rig')
        alive = ffi.new('int *')
        assert len(closed) == 1 and lib.iblb_worker_state(closed[0], alive, ffi.NULL, ffi.NULL) < 0


def test_errors_name_the_request_that_stays_open():
    with Segment('rig') as segment, Client('rig') as client:
        request = client.send('EXPINIT', ttl=None)
        with pytest.raises(OutcomeUnknown) as late:
            client.wait(request, 0)
        assert (late.value.name, late.value.request) == ('IBLB_E_TIMEOUT', request)
        (command,) = segment.take(1)[1]
        assert segment.accept(command) == 0
        segment.close()
        with pytest.raises(NoWorker) as dead:
            client.wait(request, LONG)
        assert dead.value.request == request
        with pytest.raises(NoWorker) as withdrawn:
            client.call('EXPINIT', timeout=LONG)
        assert withdrawn.value.request == 0 and 'nothing was sent' in withdrawn.value.text


# --- the slices ---


@pytest.mark.parametrize('timeout', [0, 0.05, 0.1, 0.25, 3, LONG])
def test_slices_are_at_most_100_ms_and_last_as_long_as_they_should(timeout):
    passed: list[int] = []
    for pause in slices(timeout, lambda: sum(passed) / 1000):
        assert 0 <= pause <= 100
        passed.append(pause)
    assert passed and timeout <= sum(passed) / 1000 < timeout + 0.002


def test_a_wait_for_ever_goes_on():
    pauses = slices(seconds(None), lambda: 0.0)
    assert [next(pauses) for _ in range(1000)] == [100] * 1000


@pytest.mark.parametrize('wrong', [-1, -0.001, float('nan')])
def test_a_time_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match='timeout must be a number of seconds, 0 or more, not'):
        seconds(wrong)


@pytest.mark.parametrize('wrong', ['5', True, [1], b'1'])
def test_what_is_no_time_is_refused(wrong):
    with pytest.raises(TypeError, match='ttl must be a number of seconds or None, not'):
        seconds(wrong, 'ttl')


def test_no_wrong_time_sends_anything():
    with Segment('rig') as segment, Client('rig') as client:
        for function in (client.call, client.send, client.notify):
            for wrong, kind in ((-1, ValueError), ('x', TypeError)):
                with pytest.raises(kind):
                    function('EXPINIT', **{'timeout' if function == client.call else 'ttl': wrong})
        assert segment.take(0)[1] == []


def test_times_to_live_are_whole_milliseconds():
    assert [milliseconds(seconds(ttl)) for ttl in (None, 0, 0.0001, 0.1, 12, 1e9)] == [-1, 1, 1, 100, 12000, -1]
