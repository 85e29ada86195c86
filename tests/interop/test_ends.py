"""In every language: what says that the work is done is an orderly end, and all else is a loss that is acted on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from guides import require, run
from peers import eventually

from bridge import Client
from bridge.config import ClientLost

HERE = Path(__file__).with_name('ends')
JNA = '/usr/share/java/jna.jar'
RUN = '-I. -L. -liblbridge -Wl,-rpath,$PWD -o ends && ./ends'
# The program, what it needs, the lines that build and run it, and the clients that it loses.
LANGUAGES = {
    'c': ('ends.c', ['cc'], f'cc -Wall -Werror ends.c {RUN}', 'abandoned left'),
    'cpp': ('ends.cpp', ['c++'], f'c++ -std=c++11 -Wall -Werror ends.cpp {RUN}', 'abandoned thrown left'),
    'cpp 20': ('ends.cpp', ['c++'], f'c++ -std=c++20 -Wall -Werror ends.cpp {RUN}', 'abandoned thrown left'),
    'csharp': (
        'Ends.cs',
        ['mcs', 'mono'],
        'mcs -langversion:5 Ends.cs BridgeClient.cs Native.cs && mono Ends.exe',
        'abandoned thrown awaited forgotten left',
    ),
    'java': (
        'Ends.java',
        ['javac', 'java'],
        f'javac -encoding UTF-8 -cp {JNA}:. Ends.java && java -cp {JNA}:. Ends',
        'abandoned thrown left',
    ),
    'luajit': ('ends.lua', ['luajit'], 'luajit ends.lua', 'abandoned forgotten left'),
    'matlab': (
        'ends.m',
        ['octave-cli', 'mkoctfile'],
        'octave-cli -qH --eval ends',
        'abandoned thrown forgotten left',
    ),
    'node': ('ends.js', ['node', 'npm'], 'node --expose-gc ends.js', 'abandoned thrown forgotten left'),
    'python': ('ends.py', [], f'"{sys.executable}" ends.py', 'abandoned thrown forgotten left'),
}
CLIENTS = ('closed', 'abandoned', 'thrown', 'awaited', 'forgotten', 'left')


@pytest.mark.parametrize('language', LANGUAGES)
def test_only_what_is_closed_in_order_is_not_lost(language, kit_of, serve, server):
    program, needed, line, lost = LANGUAGES[language]
    require(*needed)
    place = kit_of(language.split()[0])
    shutil.copy(HERE / program, place)
    serve('rig0', {'cameras': server.uri}, on_client_lost=[ClientLost(name, 'EXPEND', 0.0) for name in CLIENTS])
    with Client('rig0', 'watch') as watch:
        watch.subscribe('CLIENT_LOST')
        done = run(line, place)
        assert (done.returncode, done.stderr) == (0, '')
        heard = [event['client'] for _ in lost.split() if (event := watch.next_event(20.0))]
        assert sorted(heard) == sorted(lost.split())
        eventually(lambda: len(server.saw) >= len(heard), 20)
        assert watch.call('EXPINIT')['code'] == 0
        assert watch.next_event(0) is None
    assert [message[0] for message in server.saw] == [4] * len(heard) + [1]
