"""The worker's side of a segment: batches, their order, and what a worker finds when it comes to one."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest
from peers import eventually
from systems import let_everybody_write

from bridge.errors import BridgeError, NoSegment, OutcomeUnknown, WorkerBusy
from bridge.native import IBLB
from bridge.numbers import CODES
from bridge.segment.client import Client
from bridge.segment.served import BATCH, COMMAND, Segment


def answer(segment: Segment, command, code: int = 0, **body) -> bool:
    return segment.respond(command, code, msgpack.packb({'code': code, 'error': '', **body}))


def test_a_batch_is_one_structured_array_in_the_order_of_sending_across_clients():
    with Segment('rig') as segment, Client('rig', 'a') as a, Client('rig', 'b') as b:
        sent = [client.send('EXPINIT', i) and (name, i) for i in range(20) for name, client in (('a', a), ('b', b))]
        descriptors, commands = segment.take(1)
        assert isinstance(descriptors, np.ndarray) and descriptors.dtype == COMMAND and descriptors.shape == (40,)
        assert np.all(np.diff(descriptors['stamp'].astype(np.int64)) > 0)
        assert [msgpack_args(c) for c in commands] == [i for _, i in sent]
        assert [c.slot for c in commands] == [0, 1] * 20


@pytest.mark.parametrize('count', [1, 2, BATCH])
def test_what_a_command_says_of_itself_is_what_the_array_says(count):
    with Segment('rig') as segment, Client('rig') as client:
        for i in range(count):
            client.send('EXPINIT', i, ttl=60)
        descriptors, commands = segment.take(1)
        names = COMMAND.names
        assert [tuple(getattr(c, name) for name in names) for c in commands] == descriptors.tolist()
        assert all(c.key.stamp == c.stamp and c.key.request == c.request for c in commands)
        assert [answer(segment, c) for c in commands] == [True] * count
        client.send('EXPINIT', 'another')  # over the memory of the former ones
        (another,) = segment.take_commands(1)
        assert msgpack_args(another) == 'another' and [msgpack_args(c) for c in commands] == list(range(count))
        assert [c.key.stamp for c in commands] == [c.stamp for c in commands]


def msgpack_args(command) -> object:
    import json

    return json.loads(command.arguments)[0]


def test_more_commands_than_a_batch_holds_come_in_several():
    with Segment('rig') as segment, Client('rig') as client:
        for i in range(BATCH + 10):
            client.send('EXPINIT', i)
        first, second = segment.take(1)[1], segment.take(1)[1]
        assert (len(first), len(second)) == (BATCH, 10)
        assert [msgpack_args(c) for c in first + second] == list(range(BATCH + 10))


def test_an_interrupt_comes_before_what_was_sent_before_it_and_aborts_it():
    with Segment('rig') as segment, Client('rig', 'a') as a, Client('rig', 'b') as b:
        a.send('EXPINIT')
        b.send('EXPINIT')
        b.send('EXPINTERRUPT')
        a.send('EXPSTATUS')
        commands = segment.take(1)[1]
        assert [c.message for c in commands] == [16, 1, 1, 32]
        assert [segment.accept(c) for c in commands] == [0, CODES['IBLB_E_ABORTED'], CODES['IBLB_E_ABORTED'], 0]


def test_an_interrupt_of_one_service_does_not_abort_what_is_for_others():
    with Segment('rig') as segment, Client('rig') as client:
        segment.publish_services(['cameras'])
        client.send('EXPINIT')
        client.send('EXPINTERRUPT', services=['cameras'])
        interrupt, init = segment.take(1)[1]
        assert (interrupt.services, segment.accept(interrupt), segment.accept(init)) == ('cameras', 0, 0)


def test_the_end_of_a_full_ring_is_kept_for_interrupts():
    with Segment('rig', command_bytes=16 << 10) as segment, Client('rig') as client:
        with pytest.raises(BridgeError) as full:
            for _ in range(1000):
                client.send('EXPINIT', 'x' * 100)
        assert full.value.name == 'IBLB_E_FULL'
        client.send('EXPINTERRUPT')
        assert segment.take(1)[1][0].message == 16


def test_a_command_older_than_its_time_to_live_is_expired():
    with Segment('rig') as segment, Client('rig') as client:
        client.send('EXPSTART', 'r', ttl=0.001)
        client.send('EXPSTART', 'r', ttl=None)
        (old, lasting) = segment.take(1)[1]
        assert eventually(lambda: segment.accept(old) == CODES['IBLB_E_EXPIRED'])
        assert segment.accept(lasting) == 0


def test_a_withdrawn_command_is_not_accepted_and_an_accepted_one_not_withdrawn():
    with Segment('rig') as segment, Client('rig') as client:
        first, second = client.send('EXPINIT'), client.send('EXPINIT')
        one, two = segment.take(1)[1]
        assert client.cancel(first) is True
        assert segment.accept(one) == CODES['IBLB_E_CANCELLED']
        assert segment.accept(two) == 0
        assert client.cancel(second) is False


def test_a_second_worker_is_refused_and_the_first_one_named():
    with Segment('rig'), pytest.raises(WorkerBusy, match=f'process {os.getpid()}'):
        Segment('rig')


def test_a_new_worker_finds_what_was_published_and_knows_what_was_accepted():
    first = Segment('rig')
    with Client('rig') as client:
        accepted, published, answered = (client.send('EXPINIT', i) for i in range(3))
        commands = first.take(1)[1]
        assert first.accept(commands[0]) == 0
        assert answer(first, commands[2])
        first.close()
        with Segment('rig') as second:
            assert second.epoch == first.epoch + 1
            one, two = second.take(1)[1]
            assert (one.is_orphan, two.is_orphan) == (True, False)
            assert one.request % 2**31 == accepted and two.request % 2**31 == published
            answer(second, one, CODES['IBLB_E_OUTCOME_UNKNOWN'])
            with pytest.raises(OutcomeUnknown):
                client.wait(accepted, 1)
            assert client.wait(answered, 1)['code'] == 0


def test_a_segment_of_another_boot_is_retired_and_nothing_in_it_taken(segment_directory: Path):
    segment = Segment('rig')
    client = Client('rig')
    client.send('EXPSTART', 'r')
    segment.close()
    with open(segment_directory / 'rig', 'r+b') as file:
        file.seek(72)
        file.write(b'another-boot')
    with Segment('rig') as new:
        assert 'earlier boot' in new.replaced
        assert new.take(0)[1] == []
        with pytest.raises(NoSegment) as stale:
            client.send('EXPEND')
        assert stale.value.name == 'IBLB_E_STALE'
    client.close()


@pytest.mark.parametrize(
    ('offset', 'content', 'name', 'said'),
    [
        (0, b'NOTASEGM', 'IBLB_E_SEGMENT', 'not a segment'),
        (8, b'\x63\0\0\0', 'IBLB_E_VERSION', 'layout 99'),
        (24, b'\xff' * 8, 'IBLB_E_SEGMENT', 'damaged'),
        (48, b'\0\0\0\0', 'IBLB_E_SEGMENT', 'damaged'),
        (12, b'\x09\0\0\0', 'IBLB_E_SEGMENT', 'no known state'),
    ],
)
def test_a_damaged_segment_is_refused_with_the_reason_and_replaced(segment_directory, offset, content, name, said):
    Segment('rig').close()
    with open(segment_directory / 'rig', 'r+b') as file:
        file.seek(offset)
        file.write(content)
    with pytest.raises(BridgeError, match=said) as refused:
        Client('rig', timeout=0)
    assert refused.value.name == name
    with Segment('rig') as new:
        assert said in new.replaced
        Client('rig').close()


@pytest.mark.posix('makes a FIFO and a link')
@pytest.mark.parametrize('kind', ['directory', 'link', 'link to nothing', 'fifo'])
def test_what_is_no_plain_file_is_refused_and_left_alone(segment_directory: Path, kind):
    place = segment_directory / 'rig'
    if kind == 'directory':
        place.mkdir()
    elif kind == 'fifo':
        os.mkfifo(place)
    else:
        place.symlink_to(segment_directory / 'notes')
        if kind == 'link':
            (segment_directory / 'notes').write_text('mine')
    for refuses in (lambda: Segment('rig'), lambda: Client('rig', timeout=0)):
        with pytest.raises(BridgeError, match=f'{place} is a directory, a link or a device') as refused:
            refuses()
        assert refused.value.name == 'IBLB_E_PERMISSION'
    assert os.path.lexists(place)


def test_a_segment_cut_short_is_refused_and_replaced(segment_directory: Path):
    Segment('rig').close()
    os.truncate(segment_directory / 'rig', 5000)
    with pytest.raises(BridgeError, match='damaged'):
        Client('rig', timeout=0)
    with Segment('rig') as new:
        assert 'damaged' in new.replaced


def test_the_slot_of_a_killed_client_is_free_once_its_commands_are_answered():
    code = 'import os; from bridge import Client; c = Client("rig", "dies"); c.send("EXPINIT"); os.kill(os.getpid(), 9)'
    with Segment('rig') as segment:
        subprocess.run([sys.executable, '-c', code], check=False, timeout=30)
        (command,) = segment.take(2)[1]
        with Client('rig', 'other') as other:
            other.send('EXPINIT')
            assert segment.take(1)[1][0].slot == 1, 'the dead client is not done: its slot stays taken'
        assert segment.accept(command) == 0
        answer(segment, command)

        def slot_0_is_free() -> bool:
            segment.take(0.01)
            list(segment.lost_clients())
            with Client('rig', 'next') as client:
                client.send('EXPINIT')
                return segment.take(1)[1][-1].slot == 0

        assert eventually(slot_0_is_free)


def test_nobody_else_can_reach_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    open_directory = tmp_path / 'open'
    open_directory.mkdir()
    let_everybody_write(open_directory)
    monkeypatch.setenv('IBLBRIDGE_DIR', str(open_directory))
    with pytest.raises(NoSegment, match='Everybody can write') as refused:
        Segment('rig')
    assert refused.value.name == 'IBLB_E_PERMISSION'


@pytest.mark.parametrize('name', ['with spaces', 'Übung é', '実験 ж'])
def test_the_directory_may_have_any_name(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path / name))
    with Segment('rig') as segment, Client('rig') as client:
        assert segment.path == tmp_path / name / 'rig' and segment.path.exists()
        client.send('PING')
        assert len(segment.take(1)[1]) == 1
        said = subprocess.run([IBLB, 'state', 'rig'], capture_output=True, text=True, check=False, timeout=30).stdout
        assert said.startswith('worker alive')


def test_services_are_known_to_clients_by_name():
    with Segment('rig') as segment, Client('rig') as client:
        segment.publish_services(['cameras:left', 'éphys'])
        segment.publish_services_up(1)
        assert client.worker_state() == (True, 2, 1)
        client.send('EXPINIT', services=['éphys', 'cameras:left'])
        with pytest.raises(BridgeError, match='"scope"'):
            client.send('EXPINIT', services=['scope'])
        assert segment.take(1)[1][0].services == 'éphys,cameras:left'


def test_a_program_that_goes_to_another_folder_keeps_its_segment(tmp_path, monkeypatch):
    # Once a relative IBLBRIDGE_DIR was looked up again from there: the segment was "replaced by a new one, or removed".
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('IBLBRIDGE_DIR', 'segments')
    with Segment('rig') as segment, Client('rig', 'a') as client:
        assert segment.path == tmp_path / 'segments' / 'rig'
        (tmp_path / 'elsewhere').mkdir()
        monkeypatch.chdir(tmp_path / 'elsewhere')
        segment.close()
        with pytest.raises(BridgeError) as taken:
            client.call('PING', timeout=1)
        assert taken.value.name == 'IBLB_E_NO_WORKER'


@pytest.mark.parametrize('name', ['con', 'NUL', 'aux.txt', 'Com1', 'lpt9.x', 'rig.'])
def test_what_windows_keeps_for_itself_is_no_segments_name(name):
    with pytest.raises(BridgeError) as refused:
        Segment(name)
    assert refused.value.name == 'IBLB_E_NAME' and 'Windows' in refused.value.text
    Segment(f'{name}0'.replace('.', '-')).close()


@pytest.mark.parametrize('wrong', ['rig\0x', 'x\0', 5, None, b'rig'])
def test_a_name_that_is_no_text_or_is_longer_than_c_sees_is_refused(wrong):
    """C would take "cameras\0x" for "cameras", and the command would reach them."""
    with Segment('rig') as segment:
        segment.publish_services(['cameras'])
        with pytest.raises((TypeError, ValueError), match='the name of a segment'):
            Client(wrong)
        with pytest.raises((TypeError, ValueError), match='the name of a client'):
            Client('rig', wrong)
        with Client('rig') as client:
            for services in ([wrong], ['cameras', wrong]):
                with pytest.raises((TypeError, ValueError), match='the name of a service'):
                    client.send('EXPEND', services=services)


@pytest.mark.parametrize('wrong', [True, None, 1.5, b'EXPINIT', ['EXPINIT'], 2**40])
def test_what_is_no_message_is_none_and_true_is_not_the_first_one(wrong):
    with Segment('rig'), Client('rig') as client:
        with pytest.raises((TypeError, ValueError), match='a message'):
            client.send(wrong)
        with pytest.raises((TypeError, ValueError), match='an event'):
            client.subscribe([wrong])


@pytest.mark.parametrize('take', [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_cannot_be_copied_into_another_process_where_its_handle_is_another_ones(take):
    with Segment('rig'), Client('rig') as client, pytest.raises(TypeError, match='open one where it is to be used'):
        take(client)
