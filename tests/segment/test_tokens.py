"""A token that went through the segment is in no byte of its file once nobody will read it any more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import SLOTS_OFFSET, kill, program

from bridge.segment.client import Client
from bridge.segment.served import Segment

TOKEN = 's3cret-t0ken'
SECRET = TOKEN.encode()
COMMANDS, RESPONSES = 256 << 10, 512 << 10  # bytes of the rings, by default
BODY = b'\x81\xa5value\xac' + SECRET
SENDS = """
import sys, time
from bridge.segment.client import Client
client = Client('rig', 'dies')
client.subscribe(128)
for message in sys.argv[2:]:
    client.send(message, 'https://alyx', {'user': sys.argv[1]}, ttl=None)
print('ready', flush=True)
time.sleep(1000)
"""


def held(directory: Path) -> int:
    """Return how often the token stands in the files of a directory."""
    return sum(path.read_bytes().count(SECRET) for path in directory.iterdir())


def send(client: Client, message: str = 'ALYX') -> int:
    return client.send(message, 'https://alyx', {'user': TOKEN}, ttl=None)


def test_it_is_gone_once_it_was_answered_and_the_answer_read(segment_directory):
    with Segment('rig') as segment, Client('rig') as client:
        client.send('EXPINIT', ttl=None)
        request = send(client)
        assert held(segment_directory) == 1
        _, alyx = segment.take(1)[1]
        assert segment.accept(alyx) == 0
        assert held(segment_directory) == 1, 'its worker may die: the record is still whole'
        assert segment.respond(alyx, 0, BODY)
        assert held(segment_directory) == 1, 'in the response alone, although an older command is not answered yet'
        assert client.wait(request, 5)['value'] == TOKEN
        assert held(segment_directory) == 0


def test_of_other_messages_nothing_is_wiped(segment_directory):
    with Segment('rig') as segment, Client('rig') as client:
        request = send(client, 'EXPINIT')
        assert segment.respond(segment.take(1)[1][0], 0, BODY)
        client.wait(request, 5)
        assert held(segment_directory) == 2


def test_it_is_gone_once_it_was_withdrawn_and_taken_back(segment_directory):
    with Segment('rig') as segment, Client('rig') as client:
        assert client.cancel(send(client)) is True
        segment.take(0)
        segment.take(0)
        assert held(segment_directory) == 0


def test_an_event_with_one_is_gone_once_it_was_read_or_its_reader_left(segment_directory):
    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe(['ALYX'])
        segment.take(0)
        segment.publish_event(128, {'value': TOKEN})
        assert held(segment_directory) == 1
        assert TOKEN in str(client.next_event(5))
        assert held(segment_directory) == 0
        segment.publish_event(128, {'value': TOKEN})
        client.close()
        segment.take(0)
        assert held(segment_directory) == 0


def test_answers_that_nobody_read_go_with_the_slot(segment_directory):
    with Segment('rig') as segment:
        with Client('rig') as client:
            send(client)
            assert segment.respond(segment.take(1)[1][0], 0, BODY)
            assert held(segment_directory) == 1
        segment.take(0)
        assert held(segment_directory) == 0


@pytest.mark.parametrize('messages', [['ALYX'], ['EXPINIT', 'ALYX', 'ALYX']])
def test_it_is_gone_after_client_and_worker_were_killed_and_a_new_worker_came(segment_directory, messages):
    first = Segment('rig')
    with program(SENDS, TOKEN, *messages) as client:
        commands = first.take(1)[1]
        for command in commands[1:]:
            first.accept(command)
        first.respond(commands[-1], 0, BODY)
        first.publish_event(128, {'value': TOKEN})
        assert held(segment_directory) >= 2
        first.close()
        kill(client)
    with Segment('rig') as second:
        while commands := second.take(0.5)[1]:
            for command in commands:
                second.respond(command, -8074, b'\x80')
        assert list(second.lost_clients()) == ['dies']
        second.take(0)
        assert held(segment_directory) == 0


def write_at(segment: Path, offset: int) -> None:
    """Write the token into a ring of the first slot, as a writer does that dies before it publishes."""
    with segment.open('r+b') as file:
        file.seek(SLOTS_OFFSET + 1024 + offset)
        file.write(SECRET)


def test_what_a_worker_died_over_is_wiped_by_the_next(segment_directory):
    first = Segment('rig')
    with Client('rig') as client:
        client.send('EXPINIT')
        first.respond(first.take(1)[1][0], 0, b'\x80')
        first.close()
        write_at(first.path, COMMANDS + 4096)
        write_at(first.path, COMMANDS + RESPONSES + 4096)
        with Segment('rig') as second:
            assert held(segment_directory) == 0
            assert second.take(0)[1] == []
        assert client.is_open


def test_a_new_worker_leaves_alone_what_was_wiped_when_it_became_free(segment_directory):
    first = Segment('rig')
    first.close()
    write_at(first.path, COMMANDS + 4096)
    write_at(first.path, COMMANDS + RESPONSES + 4096)
    with Segment('rig'):
        assert held(segment_directory) == 2, 'megabytes are written to that nobody has used'


@pytest.mark.parametrize(('mode', 'expected'), [(0o750, 0o600), (0o700, 0o600), (0o770, 0o660), (0o2770, 0o660)])
@pytest.mark.posix('modes of files')
def test_the_segment_is_for_the_group_only_if_the_group_may_write_to_its_directory(segment_directory, mode, expected):
    os.chmod(segment_directory, mode)
    with Segment('rig') as segment:
        assert segment.path.stat().st_mode & 0o777 == expected


def test_what_a_program_died_over_goes_with_its_slot(segment_directory):
    with Segment('rig') as segment, program(SENDS, TOKEN) as client:
        segment.take(0)
        write_at(segment.path, 8192)
        kill(client)
        while not list(segment.lost_clients()):
            segment.take(0.05)
        segment.take(0)
        assert held(segment_directory) == 0
