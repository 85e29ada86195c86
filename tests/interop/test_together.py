"""Several languages at once on one segment: each gets its own answers, and the events that it asked for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from guides import environment, require
from peers import ScriptedPeer, echo_and_reply, is_command

from bridge.segment.client import Client

HERE = Path(__file__).with_name('together')
SEGMENT = 'rig0'
COUNT = 100


class Language(NamedTuple):
    """How its program is built and run, in a copy of its kit that the program lies in."""

    needs: tuple[str, ...]
    kit: str
    source: str
    build: str
    run: str


LANGUAGES = {
    'c': Language(
        ('cc',),
        'c',
        'together.c',
        "cc together.c -I. -L. -liblbridge -Wl,-rpath,'$ORIGIN' -o together",
        './together',
    ),
    'csharp': Language(
        ('mcs', 'mono'),
        'csharp',
        'together.cs',
        'mcs -langversion:5 -out:together.exe together.cs BridgeClient.cs Native.cs',
        'mono together.exe',
    ),
    'octave': Language(('octave-cli', 'mkoctfile'), 'matlab', 'together.m', '', 'octave-cli -qH together.m'),
    'node': Language(('node', 'npm'), 'node', 'together.js', '', 'node together.js'),
}


@contextmanager
def started(line: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a line for the shell; what it started is gone at the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        f'exec {line}', shell=True, cwd=place, env=environment(), text=True, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def speaking(peer: ScriptedPeer, datagram: bytes) -> None:
    """Answer, and say EXPINTERRUPT by itself when a command asks for it."""
    echo_and_reply(peer, datagram)
    if is_command(datagram) and b'speak' in datagram:
        peer.send([16, 'its camera died'])


@pytest.mark.timeout(300)
def test_c_csharp_octave_and_node_share_a_segment_and_none_gets_what_is_another_ones(kit_of, serve):
    for language in LANGUAGES.values():
        require(*language.needs)
    with ExitStack() as stack:
        cameras, ephys = (stack.enter_context(ScriptedPeer(script)) for script in (speaking, echo_and_reply))
        programs = {}
        for language in LANGUAGES.values():
            place = kit_of(language.kit)
            (place / language.source).write_bytes((HERE / language.source).read_bytes())
            if language.build:
                subprocess.run(language.build, shell=True, cwd=place, check=True, timeout=100)
        serve(SEGMENT, {'cameras': cameras.uri, 'ephys': ephys.uri})
        for name, language in LANGUAGES.items():
            line = f'{language.run} {SEGMENT} {name} {COUNT}'
            programs[name] = stack.enter_context(started(line, kit_of(language.kit)))
        for name, program in programs.items():
            assert program.stdout.readline() == 'ready\n', f'{name}: {program.stderr.read()}'
        with Client(SEGMENT, 'test') as client:
            client.call('EXPINIT', 'speak', services=['cameras'])
        for name, program in programs.items():
            out, err = program.communicate(timeout=100)
            assert (program.returncode, out, err) == (0, f'{name} {COUNT} cameras\n', '')
        wanted = [f'{name}-{i}' for name in LANGUAGES for i in range(COUNT)]
        for peer in (cameras, ephys):
            commands = [json.loads(datagram) for datagram in peer.datagrams if is_command(datagram)]
            assert sorted(reference for number, reference, *_ in commands if number == 2) == sorted(wanted)
