"""What is left of merged journals stands in the order in which it was, whatever is left out."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import main
from bridge.cli.journal.experiments import experiment
from bridge.cli.journal.selection import select
from bridge.journal.files import Journals

REF, OTHER = '2026-01-01_1_subject', '2026-01-01_2_subject'
KINDS = ('command', 'outcome', 'asked', 'replied', 'event')
STEP = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(['EXPINIT', 'EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']),
    st.sampled_from([(), (REF,), (OTHER,)]),
    st.sampled_from(['cameras', 'ephys']),
    st.integers(0, 59),
)
JOURNAL = st.lists(STEP, max_size=12).map(lambda steps: sorted(steps, key=lambda step: step[-1]))
MOMENT = st.none() | st.integers(0, 59).map(lambda second: datetime.fromisoformat(wall(second)))


def wall(second):
    return f'2026-01-01T10:00:{second:02d}+00:00'


def entry(number, kind, message, args, service, second):
    key = f'{service if kind in ("asked", "replied") else ""}-{message}'
    return {
        'kind': kind, 'message': message, 'command_id': key, 'args': list(args), 'service': service, 'code': 0,
        'services': [], 'number': number, 'time': 10**9 * (1 + second), 'wall': wall(second),
    }  # fmt: skip


def write(folder, **journals):
    """Write journals of rigs, and return what each holds."""
    found = {rig: [entry(i, *step) for i, step in enumerate(steps)] for rig, steps in journals.items()}
    for rig, entries in found.items():
        (folder / f'{rig}.jsonl').write_text(''.join(json.dumps(one) + '\n' for one in entries))
    return found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('journals')


@given(JOURNAL, JOURNAL, st.sampled_from([None, REF]), MOMENT, MOMENT, st.booleans())
def test_time_never_goes_back_in_merged_journals_whatever_is_asked_for(folder, one, two, reference, since, until, bad):
    write(folder, rig0=one, rig1=two)
    merged = list(Journals([folder]))
    wanted = Namespace(reference=reference, since=since, until=until, failures=bad)
    found = list(select(merged, wanted))
    assert [merged.index(entry) for entry in found] == sorted(merged.index(entry) for entry in found)
    assert [entry['wall'] for entry in found] == sorted(entry['wall'] for entry in found)


@given(JOURNAL, JOURNAL)
def test_a_rig_has_the_same_experiment_alone_and_beside_another(folder, one, two):
    own = write(folder, rig0=one, rig1=two)
    merged = list(experiment(Journals([folder]), REF))
    for rig, entries in own.items():
        alone = [entry['number'] for entry in experiment(entries, REF)]
        assert [entry['number'] for entry in merged if entry.get('rig', rig) == rig] == alone or not (one and two)


@given(JOURNAL)
def test_who_follows_sees_the_same_entries_in_another_order_at_most(steps):
    entries = [entry(i, *step) for i, step in enumerate(steps)]
    live = list(experiment(entries, REF, live=True))
    assert sorted(live, key=lambda entry: entry['number']) == list(experiment(entries, REF))


def test_who_follows_does_not_wait_for_what_is_not_known_yet():
    masters = [entry(0, 'asked', 'EXPSTART', (OTHER,), 'cameras', 0), entry(1, 'asked', 'EXPINIT', (), 'cameras', 1)]
    ours = entry(2, 'command', 'EXPSTART', (REF,), '', 2)
    found = experiment(iter([*masters, ours]), REF, live=True)
    assert next(found) == ours


@pytest.mark.parametrize('option', [(), ('--json',)])
def test_the_start_of_one_rig_does_not_stand_before_the_init_of_the_other(tmp_path, capsys, option):
    """The EXPSTART of rig1 stood first: the EXPINIT of rig0 was held back until its EXPSTART told of what it is."""
    write(
        tmp_path,
        rig0=[('asked', 'EXPINIT', (), 'cameras', 10), ('asked', 'EXPSTART', (REF,), 'cameras', 16)],
        rig1=[('command', 'EXPSTART', (REF,), '', 14)],
    )
    assert main(['journal', str(tmp_path), '--reference', REF, *option]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(what) for what in ('EXPINIT', 'rig1', f'{REF}', 'rig0')]
    lines = [line for line in shown.splitlines() if 'EXP' in line]
    assert len(lines) == 3 and all(places)
    assert ['rig1' in line for line in lines] == [False, True, False]
