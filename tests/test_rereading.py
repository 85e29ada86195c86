"""Files that are read again while the worker runs: what is no whole file is refused, and the old list stays."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from bridge.config import ConfigError, load_rig
from bridge.rereading import TRIES, Rereading, is_empty

GOOD = 'cameras: 192.168.0.8\nephys: 192.168.0.9\n'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'services.yaml'
    path.write_text(GOOD)
    return path


def rereading(path, wait=lambda seconds: None):
    return Rereading([str(path)], lambda: load_rig(path), wait)


def test_a_file_is_read_again(file):
    read = rereading(file)
    assert list(read().services) == ['cameras', 'ephys']
    file.write_text('cameras: 192.168.0.8\n')
    assert list(read().services) == ['cameras']


@pytest.mark.parametrize('cut', range(len(GOOD)))
def test_a_file_that_was_cut_in_its_middle_is_refused_unless_whole_lines_are_left(file, cut):
    read = rereading(file)
    file.write_text(GOOD[:cut])
    if cut and GOOD[:cut].endswith('\n'):
        assert list(read().services) == ['cameras']  # nobody can tell
        return
    with pytest.raises(ConfigError):
        read()
    file.write_text(GOOD)
    assert list(read().services) == ['cameras', 'ephys']


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('', 'is empty by now'),
        ('\n# cameras: 192.168.0.8\n---\n', 'is empty by now'),
        ('cameras: {uri: 192', 'not valid YAML'),
        ('cameras\n', 'instead of a mapping'),
        ('cameras: 192.168.0.8', 'its last line has no end'),
        (None, 'No such file'),
    ],
)
def test_what_can_not_be_used_is_refused_with_a_sentence(file, text, says):
    read = rereading(file)
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read()


@pytest.mark.posix('has no files that are pipes or devices')
@pytest.mark.parametrize('other', ['a pipe', '/dev/zero'])
def test_what_never_ends_or_waits_for_ever_is_not_opened(file, other):
    read = rereading(file)
    file.unlink()
    os.mkfifo(file) if other == 'a pipe' else file.symlink_to(other)
    with pytest.raises(ConfigError, match='no ordinary file'):
        read()
    file.unlink()
    file.write_text(GOOD)
    assert list(read().services) == ['cameras', 'ephys']


def test_of_a_huge_file_no_more_is_read_than_of_any(file):
    read = rereading(file)
    with file.open('r+b') as huge:
        huge.truncate(3 << 30)
    tracemalloc.start()
    with pytest.raises(ConfigError, match='KiB'):
        read()
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


@pytest.mark.parametrize('before', ['', '# none yet\n', 'cameras: 192.168.0.8'])
def test_a_file_may_stay_as_it_was(file, before):
    file.write_text(before)
    read = rereading(file)
    read()
    read()
    file.write_text(GOOD)
    assert list(read().services) == ['cameras', 'ephys']
    file.write_text('{}\n')
    assert read().services == {}


def test_a_file_that_is_being_written_is_read_when_it_is_whole(file):
    pieces = [GOOD[:10], GOOD[:21], GOOD]

    def write_on(seconds):
        if pieces:
            file.write_text(pieces.pop(0))

    assert list(rereading(file, write_on)().services) == ['cameras', 'ephys']
    assert not pieces


def test_a_file_that_changes_all_the_time_is_not_waited_for(file):
    turns = []

    def write_on(seconds):
        turns.append(seconds)
        file.write_text(GOOD + f'# {len(turns)}\n')

    with pytest.raises(ConfigError, match='changes all the time'):
        rereading(file, write_on)()
    assert len(turns) == TRIES


def test_a_mapping_that_is_written_down_is_not_empty():
    assert is_empty(b' \n\n') and not is_empty(b'{}')
