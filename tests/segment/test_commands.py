"""What masters ask, in Python: the client's methods, their like for asyncio, and handlers by decorator."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from peers import eventually
from stock_masters import Stock

from bridge import AsyncClient, Auxiliaries, BridgeError, Client, Misuse, NoSegment, Service
from bridge.config import ListenerConfig
from bridge.segment.commands import SERVED, Command, Serves
from bridge.worker import Worker

REF = '2026-01-01_1_subject'
INTERRUPT = 16
Serve = Callable[..., Worker]


@pytest.fixture
def worker(serve: Serve) -> Worker:
    return serve('rig', listeners=(ListenerConfig('cameras', port=0),))


@pytest.fixture
def master(worker: Worker) -> Iterator[Stock]:
    with Stock(worker.ports['cameras']) as master:
        yield master


@pytest.fixture
def program(worker: Worker) -> Iterator[Client]:
    with Client('rig', 'program') as client:
        client.serve('cameras')
        yield client


@pytest.fixture
def interrupt(worker: Worker) -> Iterator[Callable[[], Any]]:
    """Return a function by which another master interrupts: a stock one does one thing at a time."""
    with Stock(worker.ports['cameras']) as other:
        yield lambda: other.begin(other.com.confirmed_send((INTERRUPT, None)))


def refused(master: Stock, number: int = 0) -> str:
    """Return what a master was told as an error, once, and nothing else."""
    told = eventually(lambda: [data for event, data in master.told if event == 0])
    assert len(told) == number + 1, told
    return str(told[number][0])


# --- the client ---


def test_a_command_shows_all_that_the_library_says_of_it(program, master):
    start = master.begin(master.services.start(REF, {'note': 'Zoë'}))
    command = program.next_command(10)
    assert (command.message, command.args, command.service) == ('EXPSTART', [REF, {'note': 'Zoë'}], 'cameras')
    assert command.master.startswith('127.0.0.1:') and command.timeout_ms == 8000
    assert 0 <= time.perf_counter_ns() - command.time < 20e9 and command.wall.startswith('20')
    assert command.is_open and not command.interrupted
    assert REF not in repr(command) and 'EXPSTART' in repr(command)
    assert command.answer(data={'file': 'a.avi'}) is True
    assert not command.is_open and 'answered' in repr(command)
    assert start.result(10)['cameras'] == [REF, {'file': 'a.avi', 'status': 20}]


@pytest.mark.parametrize(
    ('answer', 'expected'),
    [
        ({}, {'status': 20}),
        ({'status': 'STOPPED'}, {'status': 30}),
        ({'status': 10, 'data': 'text'}, {'value': 'text', 'status': 10}),
        ({'data': [1, 2.5]}, {'value': [1, 2.5], 'status': 20}),
    ],
)
def test_an_answer_bears_status_and_data(program, master, answer, expected):
    start = master.begin(master.services.start(REF))
    with program.next_command(10) as command:
        assert command.answer(**answer)
    assert start.result(10)['cameras'] == [REF, expected]


@pytest.mark.parametrize(
    ('wrong', 'kind', 'words'),
    [
        ({'data': {'a': float('nan')}}, ValueError, 'JSON cannot express NaN'),
        ({'data': object()}, TypeError, 'JSON cannot express'),
        ({'data': 'x' * 70_000}, BridgeError, 'datagram'),
        ({'status': {'frames': 3}}, TypeError, 'write data='),
        ({'status': 'FINISHED'}, TypeError, "'RUNNING'"),
        ({'status': True}, TypeError, 'status is one of'),
        ({'status': 21}, TypeError, 'status is one of'),
    ],
)
def test_what_cannot_be_answered_is_refused_and_can_be_answered_again(program, master, wrong, kind, words):
    stop = master.begin(master.services.stop())
    with program.next_command(10) as command:
        with pytest.raises(kind, match=words):
            command.answer(**wrong)
        assert command.is_open and command.answer()
        with pytest.raises(Misuse, match='unknown, or was answered already'):
            command.answer()
    assert stop.result(10)['cameras'] == [{'status': 30}]


@pytest.mark.parametrize(
    ('sentence', 'told'),
    [
        ('Camera 2 läuft nicht.', 'Camera 2 läuft nicht.'),
        (RuntimeError('Camera 2'), 'RuntimeError: Camera 2'),
        (KeyError('a\0b'), "KeyError: 'a\\x00b'"),
        (RuntimeError('a\0b'), 'RuntimeError: a b'),
        (RuntimeError('\ud800'), 'RuntimeError: '),
        (TimeoutError(), 'TimeoutError'),
        (RuntimeError('é' * 5000), 'RuntimeError: éé'),
    ],
)
def test_a_command_fails_in_a_sentence_or_in_the_words_of_an_exception(program, master, sentence, told):
    master.begin(master.services.start(REF))
    assert program.next_command(10).fail(sentence) is True
    assert told in refused(master)


def test_a_block_that_ends_without_an_answer_fails_the_command(program, master):
    master.begin(master.services.start(REF))
    with program.next_command(10):
        pass
    assert 'left EXPSTART without an answer' in refused(master)


def test_a_block_that_ends_by_an_exception_fails_the_command_in_its_words_and_lets_it_through(program, master):
    master.begin(master.services.start(REF))
    with pytest.raises(RuntimeError, match='no disk'), program.next_command(10):
        raise RuntimeError('no disk')
    assert 'RuntimeError: no disk' in refused(master)


def test_a_command_that_is_forgotten_fails(program, master):
    master.begin(master.services.start(REF))
    with pytest.warns(ResourceWarning, match='EXPSTART was never answered'):
        program.next_command(10)
        gc.collect()
    assert 'forgot EXPSTART, without an answer' in refused(master)


def test_an_attempt_answers_with_what_is_returned_or_fails_in_the_words_of_what_is_raised(program, master):
    def refuse(command):
        raise RuntimeError(f'no disk for {command.message}')

    master.begin(master.services.start(REF))
    command = program.next_command(10)
    assert command.attempt(refuse) and str(command.error) == 'no disk for EXPSTART' and not command.is_open
    assert 'RuntimeError: no disk for EXPSTART' in refused(master)
    stop = master.begin(master.services.stop())
    command = program.next_command(10)
    assert command.attempt(lambda command: {'frames': len(command.args)}) and command.error is None
    assert stop.result(10)['cameras'] == [{'frames': 1, 'status': 30}]


def test_what_is_returned_and_is_no_json_fails_the_command(program, master):
    master.begin(master.services.start(REF))
    command = program.next_command(10)
    assert command.attempt(lambda command: {1, 2}) and isinstance(command.error, TypeError)
    assert 'TypeError: JSON cannot express' in refused(master)


def test_a_keyboard_interrupt_in_an_attempt_fails_the_command_and_goes_on(program, master):
    def interrupted(command):
        raise KeyboardInterrupt

    master.begin(master.services.start(REF))
    with pytest.raises(KeyboardInterrupt):
        program.next_command(10).attempt(interrupted)
    assert 'KeyboardInterrupt' in refused(master)


def test_a_command_that_comes_as_ctrl_c_is_pressed_is_the_next_one(program, master, monkeypatch):
    from test_ctrl_c import Interrupting

    stop = master.begin(master.services.stop())
    monkeypatch.setattr('bridge.segment.commands.lib', Interrupting('iblb_next_command'))
    with pytest.raises(KeyboardInterrupt):
        program.next_command(10)
    with program.next_command(0) as command:
        assert command.message == 'EXPEND' and command.answer()
    assert stop.result(10)['cameras'] == [{'status': 30}]


def test_an_answer_that_comes_too_late_is_no_exception(serve):
    worker = serve('rig', listeners=(ListenerConfig('cameras', port=0, timeout=0.05),))
    with Client('rig') as program, Stock(worker.ports['cameras']) as master:
        program.serve()
        master.begin(master.services.start(REF))
        command = program.next_command(10)
        assert 'did not answer' in refused(master)
        assert command.answer(data={'file': 'a.avi'}) is False
        master.begin(master.services.start(REF))
        with program.next_command(10) as command:
            eventually(lambda: len(master.told) == 2)
        assert len(master.told) == 2 and not command.is_open


def test_an_interrupt_comes_beside_what_is_in_hand_and_marks_it(program, master, interrupt):
    master.begin(master.services.start(REF))
    with program.next_command(10) as command:
        interrupt()
        with program.next_command(10) as other:
            assert other.message == 'EXPINTERRUPT' and command.interrupted and not other.interrupted
            assert other.answer()


def test_what_a_program_is_asked_can_be_chosen_and_ended(program, master):
    program.serve('cameras', ['EXPSTART', 'EXPEND'])
    assert master.run(master.services.init({'exp_ref': REF}))['cameras'] == [10, {'exp_ref': REF}]
    assert program.next_command(0) is None
    program.serve('cameras', 2 + 4)
    program.serve('cameras', [])
    with pytest.raises(Misuse, match='serves nothing'):
        program.next_command(0)
    master.begin(master.services.start(REF))
    assert 'no program serves cameras' in refused(master)


@pytest.mark.parametrize(
    ('service', 'messages', 'kind', 'words'),
    [
        ('ephys', SERVED, Misuse, 'there are: cameras'),
        ('cameras', ['EXPFINISH'], ValueError, 'no message'),
        ('cameras', ['PING'], Misuse, 'no master can ask'),
        ('cameras', [True], TypeError, 'message'),
        ('cameras', None, TypeError, 'NoneType'),
        ('came\0ras', SERVED, ValueError, 'NUL'),
    ],
)
def test_what_cannot_be_served_is_refused(worker, service, messages, kind, words):
    with Client('rig') as client, pytest.raises(kind, match=words):
        client.serve(service, messages)


def test_one_listener_is_served_by_one_program(program):
    with Client('rig') as other, pytest.raises(NoSegment, match='served by the client "program"'):
        other.serve('cameras')


def test_what_a_program_tells_reaches_its_masters(program, master):
    start = master.begin(master.services.start(REF))
    program.next_command(10).answer()
    start.result(10)
    program.tell('EXPSTATUS', 'STOPPED')
    assert eventually(lambda: master.told) == [(32, [30])]
    program.tell('EXPINFO', {'exposure': 3})
    program.tell('EXPINTERRUPT', {'error': 'camera 2 died'})
    assert eventually(lambda: master.told[1:])[0][1][0]['error'] == 'camera 2 died'
    with pytest.raises(Misuse, match='nothing that a service says'):
        program.tell('EXPSTART')


def test_commands_end_when_the_client_is_closed(worker):
    client, seen = Client('rig'), list[Command]()
    client.serve()
    thread = threading.Thread(target=lambda: seen.extend(client.commands()))
    thread.start()
    client.close()
    thread.join(10)
    assert not thread.is_alive() and seen == []
    with pytest.raises(Misuse):
        client.next_command(0)


def test_a_worker_that_is_away_is_waited_for(serve):
    first = serve('rig', listeners=(ListenerConfig('cameras', port=0),))
    with Client('rig') as program:
        program.serve('cameras')
        first.end_of_test()
        assert program.next_command(0.2) is None
        second = serve('rig', listeners=(ListenerConfig('cameras', port=0),))
        with Stock(second.ports['cameras']) as master:
            stop = master.begin(master.services.stop())
            with program.next_command(10) as command:
                assert command.answer()
            assert stop.result(10)['cameras'] == [{'status': 30}]


# --- asyncio ---


def test_the_client_for_asyncio_serves_as_well():
    for name in ('serve', 'next_command', 'commands', 'tell'):
        one, other = (inspect.signature(getattr(kind, name)) for kind in (Serves, AsyncClient))
        assert one.parameters == other.parameters, name


def test_in_asyncio_an_interrupt_reaches_a_program_whose_command_is_a_task(worker, master, interrupt):
    async def run() -> list[str]:
        seen = []

        async def carry_out(command: Command) -> None:
            with command:
                while not command.interrupted:
                    await asyncio.sleep(0.01)
                command.fail('interrupted')

        async with AsyncClient('rig', 'program') as rig:
            await rig.serve('cameras')
            assert await rig.next_command(0) is None
            master.begin(master.services.start(REF))
            async for command in rig.commands():
                seen.append(command.message)
                if command.message == 'EXPSTART':
                    task = asyncio.create_task(carry_out(command))
                    interrupt()
                else:
                    assert command.answer()
                    await task
                    break
            rig.tell('EXPSTATUS', 'STOPPED')
        return seen

    assert asyncio.run(run()) == ['EXPSTART', 'EXPINTERRUPT']
    assert 'interrupted' in refused(master)


def test_a_task_that_is_cancelled_loses_no_command(worker, master):
    async def run() -> None:
        async with AsyncClient('rig', 'program') as rig:
            await rig.serve()
            waiting = asyncio.create_task(rig.next_command(None))
            await asyncio.sleep(0.05)
            waiting.cancel()
            stop = master.begin(master.services.stop())
            with await rig.next_command(10) as command:
                assert command.answer(data={'frames': 3})
            assert (await asyncio.wrap_future(stop))['cameras'] == [{'frames': 3, 'status': 30}]

    asyncio.run(run())


# --- handlers ---


@contextmanager
def running(service: Service) -> Iterator[None]:
    thread = threading.Thread(target=service.run)
    thread.start()
    eventually(lambda: service._client is not None)
    try:
        yield
    finally:
        service.close()
        thread.join(10)
        assert not thread.is_alive()


def test_handlers_carry_out_an_experiment_and_a_failing_one_ends_it_not(worker):
    camera = Service('rig', 'cameras')

    @camera.on('EXPINIT', 'EXPCLEANUP')
    def prepare(command):
        return {'exposure': 3}

    @camera.on('EXPSTART')
    def start(command):
        if camera_is_off:
            raise RuntimeError('Camera 2 does not answer.')
        return {'file': f'{command.args[0]}.avi'}

    @camera.on('EXPEND')
    def end(command):
        command.answer('STOPPED', {'frames': 3})
        return 'of no meaning any more'

    with running(camera), closing(Auxiliaries({'cameras': f'udp://127.0.0.1:{worker.ports["cameras"]}'})) as master:

        def ask(*command):
            return master.submit(*command).result(20)['cameras']

        assert ask('EXPINIT', {'exp_ref': REF}).reply[1]['exposure'] == 3
        camera_is_off = True
        failed = ask('EXPSTART', REF)
        assert not failed.ok and 'RuntimeError: Camera 2 does not answer.' in failed.error
        camera_is_off = False
        assert ask('EXPSTART', REF).reply == [REF, {'file': f'{REF}.avi', 'status': 20}]
        assert ask('EXPSTATUS', 'RUNNING').status == 20
        assert ask('EXPEND').reply == [{'frames': 3, 'status': 30}]
        assert ask('EXPCLEANUP').reply == [{'exposure': 3, 'status': 0}]
    with pytest.raises(RuntimeError, match='does not run'):
        camera.tell('EXPINTERRUPT')


def test_an_interrupt_reaches_a_handler_that_is_at_work_and_its_command_fails(worker, master, interrupt):
    camera, stop, seen = Service('rig', 'cameras'), threading.Event(), []

    @camera.on('EXPSTART')
    def start(command):
        seen.append('begun')
        assert stop.wait(30)
        assert command.interrupted
        return {'file': 'never said'}

    @camera.on('EXPINTERRUPT')
    def interrupted(command):
        stop.set()

    with running(camera):
        master.begin(master.services.start(REF))
        eventually(lambda: seen)
        interrupt()
        assert 'An EXPINTERRUPT overtook this EXPSTART' in refused(master)
        assert master.run(master.services.status('STOPPED'))['cameras'] == [30]


def test_what_waited_behind_a_handler_until_its_time_was_up_is_not_begun(serve):
    worker = serve('rig', listeners=(ListenerConfig('cameras', port=0, timeout=0.5),))
    camera, go, begun = Service('rig', 'cameras'), threading.Event(), []

    @camera.on('EXPINIT', 'EXPSTART', 'EXPEND')
    def work(command):
        begun.append(command.message)
        assert go.wait(30)

    address = f'udp://127.0.0.1:{worker.ports["cameras"]}'
    with running(camera), closing(Auxiliaries({'cameras': address})) as master:

        def ask(*command):
            return master.submit(*command).result(20)['cameras']

        assert not ask('EXPINIT', {'exp_ref': REF}).ok
        assert not ask('EXPSTART', REF).ok
        go.set()
        eventually(lambda: ask('EXPEND').ok, 30)
    assert 'EXPEND' in begun and 'EXPSTART' not in begun


def test_a_service_whose_listener_is_gone_says_so_and_is_lost(worker):
    camera = Service('rig', 'ephys')
    camera.on('EXPSTART')(lambda command: None)
    with pytest.raises(Misuse, match='there are: cameras'):
        camera.run()


def test_no_message_that_is_none_has_a_handler():
    with pytest.raises(ValueError, match='no message'):
        Service('rig').on('EXPFINISH')


@pytest.mark.parametrize('moment', ['serve', '_work'])
def test_ctrl_c_ends_a_service_in_order_whenever_it_comes(worker, monkeypatch, moment):
    camera = Service('rig', 'cameras')
    camera.on('EXPSTART')(lambda command: None)
    owner: Any = Client if moment == 'serve' else camera
    before = getattr(owner, moment)

    def pressed(*arguments: Any) -> None:
        if moment == 'serve':
            before(*arguments)
        raise KeyboardInterrupt

    with Client('rig', 'watch') as watch:
        watch.subscribe('CLIENT_LOST')
        monkeypatch.setattr(owner, moment, pressed)
        with pytest.raises(KeyboardInterrupt):
            camera.run()
        assert watch.next_event(0.5) is None


def test_a_service_that_was_closed_before_it_ran_ends_at_once_and_can_run_again(worker):
    camera = Service('rig', 'cameras')
    camera.on('EXPSTART')(lambda command: None)
    camera.close()
    camera.run()
    with running(camera):
        pass


def test_a_service_that_ends_by_an_error_is_lost(worker, monkeypatch):
    camera = Service('rig', 'cameras')
    camera.on('EXPSTART')(lambda command: None)
    with Client('rig', 'watch') as watch:
        watch.subscribe('CLIENT_LOST')
        monkeypatch.setattr(Client, 'next_command', lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            camera.run()
        event = watch.next_event(10)
        assert event is not None and event['client'] == 'cameras'
