"""A camera service as iblrig runs it: one loop that awaits a message, deaf between a message and its own reply.

The peers of `peers.py` answer from callbacks. This one has the loop of iblrig's networked camera session, with its
hardware left out: tasks of which one listens, one is the camera program; a message is worked on to the end, its reply
confirmed, before the next one is listened for. What does not suit it (no reference, a wrong state) is an assertion that
ends the whole session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from iblutil.io import net
from peers import aux_of, eventually, free_port

from bridge.config import ServiceConfig
from bridge.errors import BridgeError
from bridge.numbers import CODES
from bridge.outcome import Outcome
from bridge.segment.client import Client
from bridge.services.rules import PROMPT

REF, NEXT_REF = '2026-01-01_1_subject', '2026-01-01_2_subject'
PAUSE = 0.2  # s: longer than by default, where a test counts on it: the session shares the interpreter with all others
Message, Status = net.base.ExpMessage, net.base.ExpStatus


class CameraSession:
    """One camera session in a thread of its own."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.uri = f'udp://127.0.0.1:{self.port}'
        self.heard: list[str] = []
        self.status, self.exp_ref, self.com = Status.CONNECTED, None, None
        self.tokens: list[Any] = []
        self.slow = False  # the camera program takes its time, until `free`
        self._ready = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> CameraSession:
        self.thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._end)
        self.thread.join(5)
        assert not self.thread.is_alive()

    def _end(self) -> None:
        self.com.close()
        self._main.cancel()  # until Python 3.11 `wait_for` may swallow it; then the loop sees that it is closed

    def free(self) -> None:
        """Let the camera program be ready."""
        self._loop.call_soon_threadsafe(self._freed.set)

    def _live(self) -> None:
        self._loop = asyncio.SelectorEventLoop()
        try:
            self._main = self._loop.create_task(self._run())
            self._loop.run_until_complete(self._main)
        except (AssertionError, asyncio.CancelledError):
            pass
        finally:
            self.com.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    async def _run(self) -> None:
        quiet = logging.Logger('quiet', logging.CRITICAL)
        self.com = await net.app.EchoProtocol.server(self.uri, name='cameras', log=quiet)
        self._awaited = asyncio.get_running_loop().create_future()
        self._awaited.cancel()
        for message in Message:
            self.com.assign_callback(message, partial(self._take, message))
        self.camera, self._freed = asyncio.Event(), asyncio.Event()
        tasks = {asyncio.create_task(self.camera.wait(), name='camera')}
        while self.com.is_connected:
            if not any(task.get_name() == 'remote' for task in tasks):
                tasks.add(asyncio.create_task(self._listen(), name='remote'))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.get_name() == 'camera':
                    self.status = Status.STOPPED
                else:
                    await self._serve(*task.result())
                tasks.remove(task)

    async def _listen(self) -> tuple[Message, list[Any], Any]:
        """Do what `on_event` does with all messages; from Python 3.12 on that does not say which came."""
        self._awaited = asyncio.get_running_loop().create_future()
        self._ready.set()
        return await self._awaited

    def _take(self, event: Message, data: list[Any], addr: Any) -> None:
        if not self._awaited.done():
            self._awaited.set_result((event, data, addr))

    async def _serve(self, event: Message, data: list[Any], addr: Any) -> None:
        self.heard.append(event.name)
        info = {'main_sync': False, 'exp_ref': self.exp_ref}
        match event:
            case Message.EXPINIT:
                (what,) = data
                self.exp_ref = (what or {}).get('exp_ref')
                assert self.exp_ref, 'No experiment reference found'
                if self.slow:
                    await self._freed.wait()
                self.status = Status.INITIALIZED
                await self.com.init(info | {'exp_ref': self.exp_ref, 'status': self.status}, addr=addr)
            case Message.EXPSTART:
                ref, _ = data
                assert self.status == Status.INITIALIZED and ref == self.exp_ref
                self.status = Status.RUNNING
                await self.com.start(self.exp_ref, info | {'status': self.status}, addr=addr)
            case Message.EXPEND | Message.EXPINTERRUPT | Message.EXPCLEANUP:
                self.camera.set()
                at_once = event is not Message.EXPEND
                await self.com.stop(info | {'status': self.status}, immediately=at_once, addr=addr)
            case Message.EXPSTATUS:
                await self.com.status(self.status, addr=addr)
            case Message.EXPINFO:
                await self.com.info(self.status, info, addr=addr)
            case Message.ALYX:
                url, token = data
                self.tokens.append((url, token))
                if not token:
                    own = SimpleNamespace(
                        base_url='https://alyx', user='user', _token={'token': 'secret'}, is_logged_in=True
                    )
                    await self.com.alyx(own, addr=addr)


def test_a_whole_session_with_a_real_camera_loop(serve):
    with CameraSession() as session:
        serve('rig', [ServiceConfig('cameras', session.uri)])
        with Client('rig') as client:

            def data(*command: object) -> Any:
                (entry,) = client.call(*command)['services']
                assert entry['ok'] and entry['state'] == 'answered', entry
                return entry['data']

            answer = data('EXPINFO', 'CONNECTED', {'main_sync': True, 'exp_ref': REF})
            assert answer == {'status': 0, 'info': {'main_sync': False, 'exp_ref': None}}
            assert data('EXPINIT', {'exp_ref': REF})['value']['status'] == 10
            assert data('EXPSTART', REF)['value'] == [REF, {'main_sync': False, 'exp_ref': REF, 'status': 20}]
            assert data('EXPSTATUS') == {'status': 20}
            assert data('ALYX') == {'value': ['https://alyx', {'user': {'token': 'secret'}}]}
            ended = client.call('EXPEND')
            (entry,) = ended['services']  # the camera goes on until its operator says so
            assert (ended['code'], entry['ok'], entry['reason']) == (CODES['IBLB_W_STATUS'], False, 'status')
            assert entry['data']['value']['exp_ref'] == REF and entry['status'] == 20
            assert data('EXPCLEANUP')['value']['status'] == 30  # in an EXPINTERRUPT
            assert data('EXPINTERRUPT')['value']['status'] == 30
            client.call('ALYX', 'https://alyx', {'user': {'token': 'secret'}})
        eventually(lambda: len(session.tokens) == 2)
    assert max(Counter(session.heard).values()) == 2  # ALYX, that was said twice


def test_a_session_that_ends_over_a_command_is_told_and_its_successor_is_used(serve):
    with CameraSession() as first:
        serve('rig', [ServiceConfig('cameras', first.uri, timeout=0.3)])
        with Client('rig') as client:
            with pytest.raises(BridgeError, match='cameras') as caught:
                client.call('EXPINIT')  # no reference: an assertion that ends the session
            (entry,) = caught.value.response['services']
            assert (entry['state'], entry['ok']) == ('echoed', False)
            first.thread.join(5)
            with CameraSession(first.port) as second:
                assert client.call('EXPINIT', {'exp_ref': REF})['services'][0]['ok']
                assert second.heard == ['EXPINIT']


def test_an_interrupt_just_after_a_reply_is_heard_by_a_real_camera_loop():
    # Once it was echoed, as the protocol does, and the loop was not listening yet: the cameras went on.
    with CameraSession() as session, aux_of(cameras=session.uri) as aux:
        aux.timing.reply_gap = aux.timing.interrupt_gap = PAUSE / 4
        for _ in range(30):
            assert aux.submit('EXPINTERRUPT').result(5)['cameras'].ok
        assert session.com.is_connected


def test_an_interrupt_is_heard_when_a_busy_camera_loop_is_free_again():
    # Once it was echoed while the cameras were being initialised, and lost.
    with CameraSession() as session, aux_of(cameras=session.uri) as aux:
        session.slow, aux.timing.resend_gap = True, PAUSE
        init = aux.submit('EXPINIT', {'exp_ref': REF})
        eventually(lambda: session.heard)
        interrupt = aux.submit('EXPINTERRUPT')
        assert init.result(5)['cameras'].error == 'aborted by EXPINTERRUPT'
        following = aux.submit('EXPEND')
        eventually(lambda: aux._carrier.links['cameras'].line.flying[0].echoed)
        assert session.heard == ['EXPINIT']
        session.free()
        assert interrupt.result(5)['cameras'].ok and following.result(5)['cameras'].ok
        assert session.heard == ['EXPINIT', 'EXPINTERRUPT', 'EXPEND']


def test_the_late_answer_to_an_init_that_was_given_up_is_not_taken_for_that_to_the_next_one():
    # Once it was: the next experiment was told that the cameras were ready for it, and they never heard of it.
    def init(ref: str, timeout: float) -> Future[dict[str, Outcome]]:
        return aux.submit('EXPINIT', {'exp_ref': ref}, timeout=timeout)

    with CameraSession() as session, aux_of(cameras=session.uri) as aux:
        session.slow, aux.timing.resend_gap = True, PAUSE
        assert init(REF, 0.2).result(5)['cameras'].state == 'echoed'
        following = init(NEXT_REF, 3 * PAUSE)
        flying = eventually(lambda: aux._carrier.links['cameras'].line.flying)[0]
        eventually(lambda: flying.echoed and time.perf_counter_ns() > flying.echoed + PROMPT)
        session.free()
        outcome = following.result(5)['cameras']
        assert (outcome.state, outcome.ok) == ('echoed', False)
        assert 'may be its reply to an earlier one' in outcome.error
        assert session.exp_ref == REF
        assert init(NEXT_REF, 5).result(6)['cameras'].ok
        assert session.exp_ref == NEXT_REF
