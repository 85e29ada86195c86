"""The rules of an exchange as functions of values, and a link with a communicator that is not there."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import exchange
from bridge.exchange import (
    EVENTS,
    LONGEST,
    REMEMBERED,
    Errand,
    Kind,
    Memory,
    Owed,
    Step,
    Timing,
    accepts,
    answered_by,
    next_step,
    read,
    safe_at,
)
from bridge.link import Link

MS = 10**6


def errand(event: int = 1, text: bytes = b'[1, null]', **values: Any) -> Errand:
    made = Errand('a', event, text, 1, 10.0, True, lambda _: True, lambda _: None)
    for name, value in values.items():
        setattr(made, name, value)
    return made


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_reading_accepts_or_says_none_and_never_raises(datagram) -> None:
    message = read(datagram)
    assert message is None or (message[0] in EVENTS | {0} and isinstance(message[1], list))


@given(
    st.sampled_from(sorted(EVENTS)),
    st.lists(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), max_size=4),
)
def test_what_a_service_says_is_read_whatever_its_spacing(event, data) -> None:
    assert read(json.dumps([event, *data], indent=1).encode() + b' \n') == (event, data)


@pytest.mark.parametrize(
    'junk',
    [b'', b'x', b'\xff', b'[3,1]', b'["foo",1]', b'[null,1]', b'[' * 10**5, b'[0,1]', b'[1.0]', b'[true,1]', b'[]'],
)
def test_junk_is_no_message(junk) -> None:
    assert read(junk) is None


def test_equal_commands_leave_as_different_datagrams() -> None:
    memory = Memory()
    payloads = [memory.stamp(errand()) for _ in range(REMEMBERED - 1)]
    assert len(set(payloads)) == len(payloads)
    assert all(json.loads(payload) == [1, None] and payload.endswith(b' ') for payload in payloads)
    assert all(memory.recognise(payload, 0, 20 * MS) is Kind.ECHO for payload in payloads[-100:])


def test_commands_that_were_refused_before_they_left_crowd_out_nobody() -> None:
    # Once they did: after a megabyte of them the echo of the command in flight was taken for a message, and echoed.
    memory = Memory()
    flying = memory.stamp(errand())
    for _ in range(3000):
        memory.forget(memory.stamp(errand(text=b'[1, "%s"]' % (b'x' * 500))))
    assert memory.recognise(flying, 0, 20 * MS) is Kind.ECHO
    memory.forget(b'never stamped')
    assert memory.bytes == len(flying)


@settings(max_examples=30)
@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=60))
def test_the_memory_of_commands_is_bounded(sizes) -> None:
    memory = Memory()
    for size in sizes * 3:
        payload = memory.stamp(errand(text=b'x' * size))
        assert payload in memory.commands and len(payload) <= LONGEST
        assert memory.bytes == sum(map(len, memory.commands)) <= exchange.REMEMBERED_BYTES + LONGEST
        assert len(memory.commands) <= REMEMBERED


def test_a_command_that_fits_no_datagram_is_refused() -> None:
    memory = Memory()
    assert len(memory.stamp(errand(text=b'x' * LONGEST))) == LONGEST
    with pytest.raises(ValueError, match='65508'):
        memory.stamp(errand(text=b'x' * (LONGEST + 1)))


def test_an_equal_message_is_a_copy_only_shortly_after_and_without_a_command_between() -> None:
    memory, window = Memory(), 20 * MS
    memory.note(b'[1]', 100 * MS, 0)
    assert memory.recognise(b'[1]', 119 * MS, window) is Kind.COPY
    assert memory.recognise(b'[1]', 120 * MS, window) is Kind.MESSAGE
    assert memory.recognise(b'[1] ', 101 * MS, window) is Kind.MESSAGE
    memory.note(b'[1]', 100 * MS, 1)  # one resend, so two answers
    assert memory.recognise(b'[1]', 101 * MS, window) is Kind.MESSAGE
    memory.note(b'[1]', 101 * MS)
    assert memory.recognise(b'[1]', 102 * MS, window) is Kind.COPY
    memory.note(b'[1]', 100 * MS, 0)
    memory.sending()
    assert memory.recognise(b'[1]', 101 * MS, window) is Kind.MESSAGE


def test_only_a_cleanup_accepts_another_event() -> None:
    pairs = {(command, reply) for command in EVENTS for reply in EVENTS if accepts(command, reply)}
    assert pairs == {(event, event) for event in EVENTS} | {(exchange.CLEANUP, exchange.INTERRUPT)}


@pytest.mark.parametrize(
    ('event', 'data', 'waiting', 'owed', 'found'),
    [
        (1, [None], [errand(1, sent=1)], [], 0),
        (1, [None], [errand(1)], [], None),
        (2, [None], [errand(1, sent=1)], [], None),
        (1, [None], [errand(1, sent=1)], [errand(1)], None),
        (1, [None], [errand(1, sent=1)], [errand(2)], 0),
        (1, [None], [errand(1, sent=1, echoed=2)], [errand(1, echoed=1)], 0),
        (1, [None], [errand(1, b'[1, "b"]', sent=1, echoed=2)], [errand(1)], 0),
        (1, [None], [errand(1, b'[1, "b"]', sent=1, echoed=2)], [errand(1, echoed=1)], None),
        (1, [None], [errand(1, b'[1, "b"]', sent=60 * MS, echoed=61 * MS)], [errand(1, echoed=1)], 0),
        (1, [None], [errand(1, sent=1, echoed=2)], [errand(1, b'[1, "b"]', echoed=1), errand(1, echoed=1)], None),
        (16, [None], [errand(8, sent=1), errand(16, sent=2)], [], 1),
        (16, [None], [errand(8, sent=1)], [], 0),
        (16, [None], [errand(16, sent=1), errand(16, sent=2)], [], 0),
        (128, ['u', {}], [errand(128, sent=1, wants_reply=False)], [], None),
        (0, ['Error: x', 128], [errand(128, sent=1, wants_reply=False)], [], 0),
        (0, ['Error: x', 2], [errand(1, sent=1)], [], None),
        (0, ['Error: x', 16], [errand(8, sent=1)], [], None),
        (0, ['Error: x', None], [errand(1, sent=1)], [], None),
        (1, [], [], [], None),
    ],
)
def test_a_message_answers_the_command_it_fits(event, data, waiting, owed, found) -> None:
    owes = Owed()
    for one in owed:
        owes.add(one, 0)
    assert answered_by(event, data, waiting, owes, 100 * MS) is (None if found is None else waiting[found])


def test_a_service_owes_the_oldest_first_for_a_while_and_nothing_once_it_has_answered_another() -> None:
    owed, old = Owed(), [errand(), errand(), errand()]

    def left(now: int) -> list[Errand]:
        return [one for _, one in owed.of(1, now)]

    for one in old:
        owed.add(one, 0)
    assert left(1) == old and not owed.of(2, 1)
    assert owed.settle(1, 1) and left(1) == old[1:]
    assert not left(exchange.OWED_FOR)
    owed.clear()
    assert not owed.settle(1, 1) and not owed.settle(2, 1)
    for _ in range(100):
        owed.add(errand(), 0)
    assert len(left(1)) == exchange.OWED_MOST


@pytest.mark.parametrize(
    ('event', 'values', 'now', 'step', 'delay'),
    [
        (1, {}, 0, Step.WAIT, 1000),
        (1, {}, 999, Step.WAIT, 1),
        (1, {}, 1000, Step.GIVE_UP, 0),
        (1, {'echoed': 5}, 1000, Step.WAIT, 9000),
        (1, {'echoed': 5}, 10000, Step.GIVE_UP, 0),
        (1, {'timeout': 0.2}, 100, Step.WAIT, 100),
        (32, {}, 0, Step.WAIT, 750),
        (32, {}, 750, Step.RESEND, 0),
        (32, {'once': True}, 750, Step.WAIT, 250),
        (32, {'tries': 2, 'last_sent': 750 * MS + 1}, 800, Step.WAIT, 200),
        (32, {'echoed': 5}, 750, Step.WAIT, 9250),
        (64, {}, 800, Step.RESEND, 0),
        (16, {}, 800, Step.RESEND, 0),
        (16, {'echoed': 5}, 800, Step.WAIT, 9200),
        (16, {'echoed': 5, 'missed': 100 * MS + 1}, 149, Step.WAIT, 1),
        (16, {'echoed': 5, 'missed': 100 * MS + 1, 'tries': 9}, 150, Step.RESEND, 0),
        (16, {'echoed': 5, 'missed': 100 * MS + 1, 'timeout': 0.1}, 105, Step.GIVE_UP, 0),
        (1, {'echoed': 5, 'missed': 100 * MS + 1}, 105, Step.WAIT, 9895),
    ],
)
def test_the_next_step_follows_from_the_stamps(event, values, now, step, delay) -> None:
    command = errand(event, **{'sent': 1, 'last_sent': 1, 'tries': 1, **values})
    taken, wait = next_step(command, now * MS + 1, Timing())
    assert (taken, wait) == (step, delay * MS)


@given(
    st.sampled_from(sorted(EVENTS)),
    st.integers(1, 3),
    st.floats(0, 20),
    st.booleans(),
    st.integers(0, 30 * 10**9),
    st.integers(0, 30 * 10**9),
)
def test_nothing_that_starts_or_ends_something_is_repeated_and_every_wait_ends(
    event, tries, timeout, echoed, missed, now
) -> None:
    command = errand(event, sent=1, last_sent=1, tries=tries, timeout=timeout, echoed=int(echoed), missed=missed)
    step, delay = next_step(command, now, Timing())
    if step is Step.RESEND:
        assert event in (16, 32, 64) and (missed or (not echoed and tries < 2))
    if step is Step.WAIT:
        assert 0 < delay <= timeout * 1e9 + 1
    if now > timeout * 1e9 + 1:
        assert step is Step.GIVE_UP


@pytest.mark.parametrize(
    ('flying', 'at'),
    [
        ([], 0),
        ([{'last_sent': 10 * MS}], 25 * MS),
        ([{'last_sent': 10 * MS, 'echoed': 11 * MS}], 13 * MS),
        ([{'last_sent': 10 * MS, 'echoed': 11 * MS}, {'last_sent': 12 * MS}], 27 * MS),
    ],
)
def test_an_interrupt_lets_what_has_just_left_be_echoed_and_answered(flying, at) -> None:
    assert safe_at([errand(**values) for values in flying], Timing()) == at


def test_a_payload_is_not_shown() -> None:
    assert 'secret' not in repr(errand(128, b'[128, "u", {"me": "secret"}]', payload=b'secret', reply=['secret']))


def test_a_factory_that_fails_ends_what_waits_and_is_asked_again() -> None:
    ended, asked = [], []

    async def factory(link: Link) -> None:
        asked.append(link.name)
        raise OSError('no socket')

    async def main() -> None:
        link = Link('a', 'udp://127.0.0.1:9', Timing(), factory, lambda *_: None)
        for round_ in (1, 2):
            commands = [errand(), errand(), errand(16)]
            for command in commands:
                command.done = ended.append
            link.enqueue(commands[0])
            link.enqueue(commands[1])
            link.interrupt(commands[2])
            while len(ended) < 3 * round_:
                await asyncio.sleep(0)
        link.close()

    asyncio.run(asyncio.wait_for(main(), 5))
    assert len(asked) == 2
    assert {command.outcome().state for command in ended} == {'not_sent'}
    assert {command.error for command in ended} == {'no socket'}
