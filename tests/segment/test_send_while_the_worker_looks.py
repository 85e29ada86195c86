"""A client that sends while the worker looks: whatever the moment, each command is taken once and can be answered."""

from __future__ import annotations

from processes import program

from bridge.segment.served import Segment

COUNT = 6000
SENDS_ALL_THE_TIME = f"""
import time
from bridge.segment.client import Client
from bridge.errors import BridgeError
client = Client('rig', timeout=5)
print('ready', flush=True)
for number in range({COUNT}):
    while True:
        try:
            client.notify('EXPINTERRUPT' if number % 7 == 0 else 'EXPINIT', number, ttl=None)
            break
        except BridgeError:
            pass
time.sleep(1000)
"""


def test_no_command_that_comes_during_a_look_is_taken_twice_or_cannot_be_accepted():
    """One that was taken beyond what had been looked at could not be found again: it was lost without an answer."""
    seen: list[int] = []
    with Segment('rig') as segment, program(SENDS_ALL_THE_TIME):
        while len(seen) < COUNT:
            for command in segment.take(20)[1]:
                code = segment.accept(command)
                assert code in (0, -8073), f'command {command.request} was taken and cannot be accepted: {code}'
                seen.append(command.request)
                assert segment.respond(command, code, b'')
    assert sorted(seen) == list(range(1, COUNT + 1))
