"""What a Python program forgets to close gives its slot back: a notebook's cell that is run again and again."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest
from peers import StockServer, eventually

from bridge.auxiliaries import Auxiliaries
from bridge.config import ClientLost
from bridge.segment.client import Client
from bridge.segment.served import Segment

TIMES = 40  # there are 16 slots


def test_a_cell_that_opens_a_client_can_be_run_as_often_as_one_likes(serve):
    serve('rig')
    for _ in range(TIMES):
        with pytest.warns(ResourceWarning, match=r'<Client of rig> was never closed'):
            rig = Client('rig')
            assert rig.call('PING')['code'] == 0
            del rig
    Client('rig').close()


def test_forgotten_auxiliaries_give_their_slot_back_as_well(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        for _ in range(TIMES):
            aux = Auxiliaries.from_segment('rig', timeout=5.0)
            assert aux.push('EXPSTATUS', 'CONNECTED', wait=True).keys() == {'cameras'}
            thread, left = aux._thread, weakref.ref(aux)
            with pytest.warns(ResourceWarning, match='was never closed'):
                del aux
                eventually(lambda left=left: gc.collect() is None or left() is None)
                eventually(lambda thread=thread: not thread.is_alive())


@pytest.mark.parametrize('open_one', [Client, Auxiliaries.from_segment])
def test_what_was_forgotten_is_lost_and_what_was_closed_is_not(serve, open_one):
    """Auxiliaries that nobody had closed ended in order, and a camera ran for ever."""
    with StockServer() as server:
        names = {'closed': 'EXPINTERRUPT', 'forgotten': 'EXPEND'}
        rules = [ClientLost(name, message, 0.0) for name, message in names.items()]
        serve('rig', {'cameras': server.uri}, on_client_lost=rules)
        open_one('rig', 'closed').close()
        with pytest.warns(ResourceWarning, match='was never closed'):
            left = weakref.ref(open_one('rig', 'forgotten'))
            eventually(lambda: gc.collect() is None or left() is None)
            eventually(lambda: server.saw)
        assert server.saw == [[4, None]]


@pytest.mark.filterwarnings('error::ResourceWarning')
@pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')
def test_what_was_closed_is_forgotten_without_a_word(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as rig:
            rig.call('PING')
        aux = Auxiliaries.from_segment('rig')
        aux.close()
        del rig, aux
        gc.collect()


def test_a_client_that_could_not_be_opened_is_forgotten_without_a_word():
    code = (
        'import gc; from bridge import Client, BridgeError\n'
        'try: Client("nothing-there", timeout=0)\n'
        'except BridgeError: gc.collect(); print("refused")'
    )
    done = subprocess.run([sys.executable, '-Wd', '-c', code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ('refused\n', '')


def test_a_client_that_is_left_at_the_end_of_the_program_ends_with_it():
    code = 'from bridge import Client; rig = Client("rig", "left")'
    with Segment('rig') as segment:
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, '')

        def is_free() -> bool:
            segment.take(0.05)
            return not segment.is_attached('left')

        eventually(is_free)


def test_auxiliaries_and_workers_say_what_they_are_of(serve):
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri})
        assert repr(worker) == '<Worker of rig: cameras>'
        for aux in (Auxiliaries({'cameras': server.uri}), Auxiliaries.from_segment('rig')):
            assert repr(aux) == '<Auxiliaries of cameras>'
            aux.close()
            assert repr(aux) == '<Auxiliaries of cameras, closed>'
    assert repr(Auxiliaries({})).startswith('<Auxiliaries of nothing')


def test_a_client_says_what_it_is_of():
    with Segment('rig'):
        with Client('rig', 'stimulus') as named, Client('rig') as unnamed:
            assert (repr(named), repr(unnamed)) == ("<Client of rig 'stimulus'>", '<Client of rig>')
        assert repr(named) == "<Client of rig 'stimulus', closed>"
