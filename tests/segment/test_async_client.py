"""`AsyncClient`: waits do not hold up the loop, and a cancelled task leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from typing import Any

import msgpack
import pytest
from peers import ScriptedPeer, StockServer, echo_and_reply, eventually, only_echo
from test_events import publish

from bridge import AsyncClient, Client, Misuse, NoSegment, NoWorker, OutcomeUnknown, ServiceFailure
from bridge.segment.served import Segment

LONG = 60.0


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def respond(segment: Segment, command: Any, **body: Any) -> None:
    segment.accept(command)
    segment.respond(command, 0, msgpack.packb({'code': 0, 'error': '', 'services': [], **body}))


def test_calls_at_the_same_time_get_each_their_own_answer_and_the_loop_goes_on(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})

        async def work() -> list[Any]:
            async with AsyncClient('rig') as rig:
                turns = 0

                async def turn() -> None:
                    nonlocal turns
                    while True:
                        turns += 1
                        await asyncio.sleep(0)

                turning = asyncio.create_task(turn())
                bodies = await asyncio.gather(*(rig.call('EXPINIT', n, timeout=LONG) for n in range(5)))
                turning.cancel()
                assert turns > 10
                return [body['services'][0]['data']['value'] for body in bodies]

        assert run(work()) == list(range(5))


def test_more_waits_than_threads_are_all_answered():
    with Segment('rig') as segment:

        async def work() -> None:
            async with AsyncClient('rig') as rig:
                requests = [rig.send('EXPINIT', n) for n in range(100)]
                waits = [asyncio.create_task(rig.wait(request, LONG)) for request in requests]
                await asyncio.sleep(0)
                commands = []
                while len(commands) < 100:
                    commands += segment.take(0)[1]
                for command in commands[::-1]:
                    respond(segment, command, request=command.request % 2**31)
                assert [(await wait)['request'] for wait in waits] == requests

        run(work())


def test_a_cancelled_call_gives_its_command_up():
    with Segment('rig') as segment:

        async def work() -> None:
            async with AsyncClient('rig') as rig:
                call = asyncio.create_task(rig.call('EXPINIT', timeout=LONG))
                while not (taken := segment.take(0)[1]):
                    await asyncio.sleep(0.001)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert segment.accept(taken[0]) != 0, 'it was withdrawn'

        run(work())


def test_a_cancelled_wait_leaves_its_request_open_and_loses_no_response():
    with Segment('rig') as segment:

        async def work() -> None:
            async with AsyncClient('rig') as rig:
                for _ in range(20):  # the response comes before, while or after the wait is cancelled
                    request = rig.send('EXPINIT')
                    wait = asyncio.create_task(rig.wait(request, LONG))
                    await asyncio.sleep(0)
                    (command,) = segment.take(1)[1]
                    respond(segment, command)
                    wait.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        assert (await wait)['code'] == 0
                        continue
                    assert (await rig.wait(request, LONG))['code'] == 0

        run(work())


def test_a_cancelled_wait_for_an_event_loses_none():
    with Segment('rig') as segment:

        async def work() -> None:
            async with AsyncClient('rig') as rig:
                rig.subscribe()
                segment.take(0)
                got = []
                for _ in range(20):
                    wait = asyncio.create_task(rig.next_event(LONG))
                    await asyncio.sleep(0)
                    publish(segment, 'SERVICE_UP')
                    wait.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        got.append(await wait)
                while len(got) < 20:
                    got.append(await rig.next_event(LONG))
                assert sorted(event['sequence'] for event in got) == list(range(1, 21))

        run(work())


def test_events_are_iterated_over_until_it_is_closed():
    with Segment('rig') as segment:

        async def work() -> list[str]:
            seen = []
            async with AsyncClient('rig') as rig:
                rig.subscribe(['SERVICE_UP', 'SERVICE_DOWN'])
                segment.take(0)
                publish(segment, 'SERVICE_UP')
                publish(segment, 'SERVICE_DOWN')

                async def listen() -> None:
                    async for event in rig.events():
                        seen.append(event['event'])

                listening = asyncio.create_task(listen())
                while len(seen) < 2:
                    await asyncio.sleep(0.001)
            await listening
            return seen

        assert run(work()) == ['SERVICE_UP', 'SERVICE_DOWN']


def test_the_client_iterates_as_well_until_another_thread_closes_it():
    import threading

    with Segment('rig') as segment:
        rig, seen = Client('rig'), []
        rig.subscribe()
        segment.take(0)

        def listen() -> None:
            seen.extend(event['event'] for event in rig.events())
            seen.append('the end')

        thread = threading.Thread(target=listen)
        thread.start()
        publish(segment, 'EXPINTERRUPT')
        eventually(lambda: segment.take(0.01) and not segment.is_attached('nobody'))
        time.sleep(0.05)  # so that it waits, mostly; either way it ends
        rig.close()
        thread.join(10)
        assert not thread.is_alive() and seen[-1] == 'the end'


def test_errors_are_those_of_the_client_and_bear_the_request_that_stays_open(serve):
    with ScriptedPeer(echo_and_reply) as good, ScriptedPeer(only_echo) as deaf:
        worker = serve('rig', {'cameras': good.uri, 'deaf': deaf.uri}, timeout=0.3)

        async def work() -> None:
            with pytest.raises(RuntimeError, match='async with'):
                AsyncClient('rig').send('PING')
            with pytest.raises(NoSegment):
                async with AsyncClient('nowhere', timeout=0):
                    pass
            async with AsyncClient('rig', 'a') as rig:
                assert repr(rig) == "<AsyncClient of rig 'a'>"
                with pytest.raises(ServiceFailure) as failed:
                    await rig.call('EXPINIT')
                assert list(failed.value.failed) == ['deaf']
                with pytest.raises(Misuse):
                    await rig.call('EXPSTART', 5)
                with pytest.raises(ValueError, match='JSON cannot express NaN'):
                    await rig.call('EXPINIT', float('nan'))
                request = rig.send('EXPINIT')
                with pytest.raises(OutcomeUnknown) as late:
                    await rig.wait(request, 0)
                assert late.value.request == request
                rig.cancel(request)
                worker.end_of_test()
                with pytest.raises(NoWorker):
                    await rig.call('EXPINIT')
            with pytest.raises(Misuse):
                await rig.wait(1)
            assert repr(rig) == "<AsyncClient of rig 'a', closed>"

        run(work())


def test_opening_can_be_cancelled_and_leaves_nothing_open():
    with Segment('rig'):
        pass

    async def work() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(AsyncClient('rig', 'waits', timeout=1).__aenter__(), 0.05)

    run(work())
    with Segment('rig') as segment:
        assert eventually(lambda: segment.take(0.01) and not segment.is_attached('waits'))


def test_both_have_the_same_methods_with_the_same_parameters():
    def surface(kind: type) -> dict[str, Any]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(method).parameters for name, method in methods if not name.startswith('_')}

    one, other = surface(Client), surface(AsyncClient)
    del one['close'], one['abandon']  # the block is left
    assert one == other


def test_what_is_documented_is_there():
    import bridge

    for name in bridge.__all__:
        assert getattr(bridge, name).__doc__ and f'`{name}`' in bridge.__doc__


def test_events_are_chosen_by_names_numbers_and_lists_and_none_means_all():
    with Segment('rig') as segment, Client('rig') as client:
        for chosen, wanted in (
            ((), ['EXPINTERRUPT', 'SERVICE_UP', 'CLIENT_LOST']),
            ((['SERVICE_UP'], 16), ['EXPINTERRUPT', 'SERVICE_UP']),
            ((('CLIENT_LOST',),), ['CLIENT_LOST']),
        ):
            client.subscribe(*chosen)
            segment.take(0)
            for event in ('EXPINTERRUPT', 'SERVICE_UP', 'CLIENT_LOST'):
                publish(segment, event)
            assert [client.next_event(1)['event'] for _ in wanted] == wanted
        client.unsubscribe()
        publish(segment, 'CLIENT_LOST')
        assert client.next_event(0) is None
