"""Use after close, and close in the middle of what other threads do."""

from __future__ import annotations

import threading
import time

import pytest
from peers import eventually

from bridge.errors import Misuse
from bridge.numbers import CODE_NAMES
from bridge.segment.client import Client
from bridge.segment.library import ffi, last_error, lib
from bridge.segment.served import Segment

LONG_MS = 60_000


def open_handle(name: str) -> int:
    handle = ffi.new('int *')
    assert lib.iblb_open(b'rig', name.encode(), 5000, handle) >= 0
    return handle[0]


def send(handle: int) -> tuple[str, int]:
    request = ffi.new('int *')
    return CODE_NAMES[lib.iblb_send(handle, b'', 1, b'', -1, request)], request[0]


def every_function(handle: int) -> set[str]:
    """Call everything that takes a handle; return the names of what came back."""
    number, text = ffi.new('int *'), ffi.new('char[]', 100)
    codes = [
        lib.iblb_send(handle, b'', 1, b'', 0, number),
        lib.iblb_send_msgpack(handle, b'', 1, b'', 0, 0, number),
        lib.iblb_notify(handle, b'', 1, b'', 0),
        lib.iblb_wait(handle, 1, 0, text, 100, number),
        lib.iblb_wait_msgpack(handle, 1, 0, ffi.cast('unsigned char *', text), 100, number),
        lib.iblb_call(handle, b'', 1, b'', 0, text, 100, number),
        lib.iblb_cancel(handle, 1),
        lib.iblb_worker_state(handle, number, number, number),
        lib.iblb_close(handle),
    ]
    return {CODE_NAMES[code] for code in codes}


def test_a_closed_or_invented_handle_is_an_error_for_every_function():
    with Segment('rig'):
        handle = open_handle('a')
        assert lib.iblb_close(handle) == 0
        for number in (handle, 0, -1, 1, 64, 65, 2**31 - 1, -(2**31)):
            assert every_function(number) == {'IBLB_E_HANDLE'}
        assert 'handle' in last_error()


def test_the_number_of_a_closed_handle_is_not_given_to_the_next_one():
    with Segment('rig') as segment:
        numbers = set()
        for _ in range(200):
            handle = open_handle('a')
            assert handle not in numbers
            numbers.add(handle)
            lib.iblb_close(handle)
            segment.take(0)


def test_a_python_client_that_is_closed_says_so():
    with Segment('rig'):
        client = Client('rig')
        client.close()
        client.close()
        for call in (
            lambda: client.send('PING'),
            lambda: client.wait(1),
            lambda: client.cancel(1),
            client.worker_state,
        ):
            with pytest.raises(Misuse):
                call()


@pytest.mark.parametrize('waits', [1, 8])
def test_a_close_ends_the_waits_of_all_threads(waits):
    with Segment('rig') as segment:
        handle = open_handle('a')
        requests = [send(handle)[1] for _ in range(waits)]
        segment.take(1)
        ended: list[str] = []
        begun = threading.Barrier(waits + 1)

        def wait(request: int) -> None:
            begun.wait(10)
            ended.append(CODE_NAMES[lib.iblb_wait(handle, request, LONG_MS, ffi.NULL, 0, ffi.NULL)])

        threads = [threading.Thread(target=wait, args=(request,)) for request in requests]
        for thread in threads:
            thread.start()
        begun.wait(10)
        assert lib.iblb_close(handle) == 0
        started = time.monotonic()
        for thread in threads:
            thread.join(20)
        assert time.monotonic() - started < 20, 'a wait used its time-out up'
        assert len(ended) == waits and set(ended) <= {'IBLB_E_CLOSED', 'IBLB_E_HANDLE'}


def test_a_close_ends_a_call_that_is_parked():
    with Segment('rig') as segment:
        handle = open_handle('a')
        ended: list[str] = []

        def call() -> None:
            code = lib.iblb_call(handle, b'', 1, b'', LONG_MS, ffi.NULL, 0, ffi.new('int *'))
            ended.append(CODE_NAMES[code])

        thread = threading.Thread(target=call)
        thread.start()
        eventually(lambda: segment.take(0.01)[1])
        lib.iblb_close(handle)
        thread.join(20)
        assert ended == ['IBLB_E_CLOSED']


def test_of_several_threads_that_close_at_once_one_does():
    with Segment('rig') as segment:
        for _ in range(50):
            handle = open_handle('a')
            codes: list[int] = []
            at_once = threading.Barrier(4)

            def close(handle: int = handle, codes: list[int] = codes, at_once: threading.Barrier = at_once) -> None:
                at_once.wait(10)
                codes.append(lib.iblb_close(handle))

            threads = [threading.Thread(target=close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            assert sorted(CODE_NAMES[code] for code in codes) == ['IBLB_E_HANDLE'] * 3 + ['IBLB_OK']
            segment.take(0)


def test_threads_that_use_a_handle_while_others_close_and_open_it_get_a_status_each_time():
    """The same name is opened again and again; each open closes the handle before."""
    expected = {'IBLB_OK', 'IBLB_E_HANDLE', 'IBLB_E_CLOSED', 'IBLB_E_REQUEST', 'IBLB_E_TIMEOUT', 'IBLB_E_FULL'}
    expected |= {'IBLB_E_NOT_SENT', 'IBLB_W_ACCEPTED', 'IBLB_E_CANCELLED', 'IBLB_E_TOO_MANY'}
    with Segment('rig') as segment:
        current = [open_handle('a')]
        seen: set[str] = set()
        done = threading.Event()

        def use() -> None:
            while not done.is_set():
                for code in every_function_but_close(current[0]):
                    seen.add(CODE_NAMES[code])

        def serve() -> None:
            while not done.is_set():
                for command in segment.take(0.01)[1]:
                    segment.respond(command, 0, b'\x80')

        threads = [threading.Thread(target=use) for _ in range(3)] + [threading.Thread(target=serve)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            current[0] = open_handle('a')
        done.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        lib.iblb_close(current[0])
        assert 'IBLB_OK' in seen and seen <= expected


def every_function_but_close(handle: int) -> list[int]:
    number, text = ffi.new('int *'), ffi.new('char[]', 100)
    sent = lib.iblb_send(handle, b'', 1, b'', 1000, number)
    return [
        sent,
        lib.iblb_wait(handle, number[0], 1, text, 100, ffi.NULL),
        lib.iblb_cancel(handle, number[0]),
        lib.iblb_call(handle, b'', 1, b'', 1, text, 100, number),
        lib.iblb_worker_state(handle, ffi.NULL, ffi.NULL, ffi.NULL),
    ]


def test_a_worker_that_is_rung_or_closed_by_other_threads_comes_back_from_its_take():
    segment = Segment('rig')
    back = threading.Event()

    def take() -> None:
        segment.take(60)
        back.set()

    thread = threading.Thread(target=take)
    thread.start()
    segment.ring()
    assert back.wait(20)
    thread.join(10)
    segment.close()
    segment.close()
    segment.ring()
