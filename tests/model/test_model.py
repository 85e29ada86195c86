"""The protocol in shared memory, as Spin models: every interleaving and every crash is tried.

The models in tests/model say in their first lines what they hold and what they leave out. Each is searched completely.
Then, for each thing that the protocol relies on, a search of the model without it must find a violation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)
MODELS = Path(__file__).parent
DEPTH = 10_000  # steps of one run; the longest has some 600
MEGABYTES = 1500


@dataclass
class Found:
    """What a search came to."""

    violation: str  # empty: none
    states: int
    text: str


@pytest.fixture(scope='session', autouse=True)
def spin():
    missing = [program for program in ('spin', 'gcc') if shutil.which(program) is None]
    if missing:
        sentence = f'{" and ".join(missing)} not installed (Debian: apt-get install spin gcc)'
        if 'CI' in os.environ:
            pytest.fail(sentence)
        pytest.skip(sentence)


LARGE = pytest.mark.slow  # millions of states


def run(folder: Path, *command: object) -> str:
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def search(folder: Path, model: str, *macros: str, cycles: bool = False, optimize: str = '-O1') -> Found:
    """Search all states for violations and stuck processes or, with `cycles`, for runs that never end."""
    run(folder, 'spin', '-a', *macros, MODELS / model)
    options = ['-DCOLLAPSE', '-DVECTORSZ=512', '-DNP' if cycles else '-DSAFETY', f'-DMEMLIM={MEGABYTES}']
    run(folder, 'gcc', optimize, '-w', *options, '-o', 'pan', 'pan.c')
    text = run(folder, './pan', f'-m{DEPTH}', '-w22', *(['-l'] if cycles else []))
    violation = re.search(r'^pan:\d+: (.*) \(at depth', text, re.MULTILINE)
    states = re.search(r'^ *([\d.e+]+) states, stored', text, re.MULTILINE)
    assert states, text
    for cut_short in ('Search not completed', 'max search depth too small', 'reached -DMEMLIM'):
        assert violation or cut_short not in text, text
    return Found(violation.group(1) if violation else '', int(float(states.group(1))), text)


def trail(folder: Path, model: str, *macros: str) -> str:
    """Return the end of the run that Spin found, to be read by a person."""
    return run(folder, 'spin', '-t', '-p', '-k', folder / f'{model}.trail', *macros, MODELS / model)[-8000:]


@pytest.mark.parametrize(
    ('model', 'macros'),
    [
        ('segment.pml', ['-DINTERRUPTS=2']),
        ('segment.pml', ['-DINTERRUPTS=2', '-DCANCELS=1']),
        ('segment.pml', ['-DSTALL']),
        pytest.param('segment.pml', ['-DLEAVES=3'], marks=LARGE),
        pytest.param('segment.pml', ['-DLEAVES=3', '-DVICTIM=2'], marks=LARGE),
        ('incoming.pml', []),
        ('incoming.pml', ['-DVICTIM=PROGRAM']),
        ('doorbell.pml', []),
        ('doorbell.pml', ['-DROOM']),
    ],
    ids=lambda value: value if isinstance(value, str) else ' '.join(value) or 'plain',
)
def test_no_interleaving_and_no_crash_breaks_the_protocol(model, macros, tmp_path):
    found = search(tmp_path, model, *macros)
    print(f'{model} {" ".join(macros)}: {found.states:,} states')
    assert not found.violation, f'{found.violation}\n{trail(tmp_path, model, *macros)}'


@pytest.mark.parametrize(
    ('model', 'macros'),
    [
        ('segment.pml', ['-DINTERRUPTS=2']),
        pytest.param('segment.pml', ['-DLEAVES=3', '-DVICTIM=2'], marks=[pytest.mark.long, pytest.mark.timeout(0)]),
        ('incoming.pml', []),
        ('incoming.pml', ['-DVICTIM=PROGRAM']),
        ('doorbell.pml', []),
        ('doorbell.pml', ['-DROOM']),
    ],
    ids=lambda value: value if isinstance(value, str) else ' '.join(value) or 'plain',
)
def test_every_run_comes_to_its_end(model, macros, tmp_path):
    """With what is asserted of the end, this is the promise that each command is answered once a worker stays alive."""
    found = search(tmp_path, model, *macros, cycles=True)
    print(f'{model} {" ".join(macros)}: {found.states:,} states')
    assert not found.violation, f'{found.violation}\n{trail(tmp_path, model, *macros)}'


ABLATIONS = [
    ('doorbell.pml', 'NO_FENCE_IN_RING', [], 'invalid end state'),
    ('doorbell.pml', 'NO_FENCE_IN_ARM', [], 'invalid end state'),
    ('doorbell.pml', 'NO_LOOK_AFTER_ARM', [], 'invalid end state'),
    ('doorbell.pml', 'SEQUENCE_READ_LATE', [], 'invalid end state'),
    ('doorbell.pml', 'WAKER_CLEARS_PARKED', [], 'invalid end state'),
    ('doorbell.pml', 'ROOM_NOT_LOOKED_AT_AFTER_ARM', ['-DROOM'], 'invalid end state'),
    ('segment.pml', 'ANSWERED_BEFORE_THE_RESPONSE', [], 'gone[1]&&gone[2]'),
    ('segment.pml', 'FREED_BEFORE_THE_LAST_ANSWER', [], 'assertion'),
    ('segment.pml', 'ACCEPT_WITHOUT_SWAP', ['-DCANCELS=1'], 'withdrawn[r]'),
    ('segment.pml', 'SUCCESSOR_SENDS_WHAT_WAS_ACCEPTED', [], 'sent[r]==1'),
    ('segment.pml', 'INTERRUPT_NOT_LOOKED_AT', ['-DINTERRUPTS=2'], 'interrupt_stamp'),
    ('segment.pml', 'TAKES_WHAT_IT_HAS_NOT_LOOKED_AT', [], 'gone[1]&&gone[2]'),
    ('segment.pml', 'REFUSED_WITHOUT_ACCEPT', [], 'assertion'),
    ('segment.pml', 'SECOND_RESPONSE_TAKEN', [], 'taken[request]==0'),
    ('segment.pml', 'CLAIMED_BY_THE_LOCK_ALONE', [], 'assertion'),
    ('segment.pml', 'BEGUN_WITHOUT_THE_LOCK', [], 'gone[1]&&gone[2]'),
    ('segment.pml', 'REUSED_BESIDE_A_WORKER', [], 'gone[1]&&gone[2]'),
    ('segment.pml', 'CLOSING_TAKEN_BACK_FIRST', [], 'gone[1]&&gone[2]'),
    ('segment.pml', 'WRITES_OVER_WHAT_WAS_LEFT', ['-DLEAVES=3'], 'assertion'),
    ('segment.pml', 'READS_ITS_OWNERS_ALONE', ['-DLEAVES=3'], 'assertion'),
    ('segment.pml', 'ANSWERS_WHO_HAS_LEFT', ['-DLEAVES=3'], 'record[r].generation==generation'),
    ('segment.pml', 'RESPOND_WITHOUT_EPOCH', ['-DSTALL'], 'assertion'),
    ('incoming.pml', 'ANSWERED_WITHOUT_A_SWAP', [], 'told_answer'),
    ('incoming.pml', 'WITHDRAWN_WITHOUT_A_SWAP', [], 'told_answer'),
    ('incoming.pml', 'PUBLISHED_BEFORE_THE_SWAP', [], 'told_answer'),
    ('incoming.pml', 'RELEASED_WHEN_TAKEN', [], 'told_answer'),
    ('incoming.pml', 'SUCCESSOR_FORGETS_WHAT_WAS_TAKEN', [], 'told_answer'),
    ('incoming.pml', 'GONE_BEFORE_ITS_ANSWERS_WERE_TAKEN', ['-DVICTIM=PROGRAM'], 'told_answer'),
    ('incoming.pml', 'FREED_BEFORE_ITS_ANSWERS_WERE_TAKEN', ['-DVICTIM=PROGRAM'], 'told_answer'),
    ('incoming.pml', 'GONE_AND_STILL_INHERITED', [], 'told_answer'),
]


@pytest.mark.parametrize(('model', 'ablation', 'macros', 'violation'), ABLATIONS, ids=[case[1] for case in ABLATIONS])
def test_the_search_misses_what_is_left_out(model, ablation, macros, violation, tmp_path):
    found = search(
        tmp_path, model, f'-DABLATION_{ablation}', *macros, optimize='-O0'
    )  # it compiles longer than it runs
    print(f'{ablation}: {found.violation or "nothing"} after {found.states:,} states')
    assert violation in found.violation, found.text


def test_every_ablation_in_the_models_is_tried():
    written = {
        (path.name, name)
        for path in MODELS.glob('*.pml')
        for name in re.findall(r'def ABLATION_(\w+)', path.read_text())
    }
    assert written == {(model, name) for model, name, _, _ in ABLATIONS}
