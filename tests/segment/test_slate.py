"""What is kept at once: whoever is killed while he keeps it, or finds the disk full, leaves nothing that is untrue."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.segment import kept, slate
from bridge.segment.slate import ROOM, Slate, record


@pytest.fixture
def place(tmp_path):
    return kept.place(tmp_path / 'rig', 'listeners')


def found(place):
    return kept.load(place.with_name('rig'), 'listeners')


def test_what_was_written_last_is_found_by_whoever_comes_next(place):
    assert found(place) == {}
    first = Slate(place)
    for number in range(5):
        assert first.write({'n': number})
        assert found(place) == {'n': number}
    first.close()
    second = Slate(place)
    assert second.write({'n': 'a successor'}) and found(place) == {'n': 'a successor'}
    assert second.write({}) and slate.read(place.read_bytes()) == (8, {})
    second.close()


@given(st.integers(0, 200), st.sampled_from([b'', b'\0', b'x']), st.booleans())
def test_of_one_that_is_half_written_the_one_before_is_left(cut, rest, first):
    old, new = record(6, {'n': 'old'}), record(7, {'n': 'new'})
    cut = min(cut, len(new) - 1)
    torn = new[:cut] + rest * (len(new) - cut)
    whole = (torn.ljust(ROOM, b'\0') + old) if first else (old.ljust(ROOM, b'\0') + torn)
    assert slate.read(whole)[1] in ([{'n': 'old'}] if torn != new else [{'n': 'new'}])


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_whatever_stands_in_the_file_is_a_map_or_nothing(one, other):
    assert isinstance(slate.read(one.ljust(ROOM, b'\0') + other)[1], dict)


@pytest.mark.parametrize('before', [b'', b'{"segment": "of a version before this one"}', b'\xff' * 100])
def test_a_file_of_another_kind_is_written_over(place, before):
    place.write_bytes(before)
    one = Slate(place)
    assert one.write({'n': 1}) and found(place) == {'n': 1}
    one.close()


@pytest.mark.posix('a process is forked, to be killed at each line')
def test_of_a_version_before_this_one_the_file_stands_there_until_that_of_this_one_does(place):
    """It was emptied first: who was killed then left nothing."""
    before = {'segment': 'of a version before this one'}
    line, seen = 1, []
    place.write_text(json.dumps(before))
    while killed_at(line, lambda: Slate(place).write({'n': 1})):
        seen.append(found(place))
        place.write_text(json.dumps(before))
        line += 1
    assert line > 30 and found(place) == {'n': 1}
    assert seen == sorted(seen, key=lambda one: one != before), 'first the one and then the other'
    assert all(one in (before, {'n': 1}) for one in seen)
    assert kept.is_place(place.with_name(f'{place.name}.new')), 'nor does doctor wonder what it is'
    place.with_name(f'{place.name}.new').touch()
    kept.forget(place.with_name('rig'))
    assert not list(place.parent.iterdir())


def killed_at(last, what):
    """Do something in a process that is killed at its n-th line; tell whether it came so far."""
    if not (pid := os.fork()):
        lines = itertools.count(1)

        def trace(frame, event, argument):
            if event == 'line' and next(lines) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        what()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.posix('elsewhere users share no directory of a group, and what is open cannot be removed')
def test_what_a_worker_of_another_user_left_in_a_directory_of_a_group_is_replaced_at_once(place, monkeypatch):
    another = Slate(place)
    assert another.write({'n': 1})
    another.close()
    left = place.stat().st_ino

    def is_anothers(path, mode, **options):
        if mode == 'r+b' and path.exists() and path.stat().st_ino == left:
            raise PermissionError(errno.EACCES, 'permission denied')
        return open(path, mode, **options)

    monkeypatch.setattr(slate, 'open', is_anothers, raising=False)
    keeper = os.open(place, os.O_RDONLY)  # so that no new file has its number
    one = Slate(place)
    assert one.write({'n': 2}) and found(place) == {'n': 2}
    one.close()
    os.close(keeper)


class Full:
    """A file on a disk that is full."""

    def seek(self, place):
        return place

    def write(self, said):
        raise OSError(errno.ENOSPC, 'no space left on device')

    def close(self):
        pass


def test_what_a_full_disk_refuses_leaves_nothing_older_to_be_believed(place):
    one = Slate(place)
    assert one.write({'n': 0}) and one.write({'n': 1})
    one._file.close()
    one._file = Full()
    assert not one.write({'n': 2}) and not place.exists()
    assert one.write({'n': 3}) and found(place) == {'n': 3}
    assert not one.write({'n': 'x' * ROOM}) and not place.exists()
    one.close()


def test_a_reader_finds_a_whole_one_at_any_moment(place):
    one, ended = Slate(place), threading.Event()
    one.write({'n': 0, 'filling': 'x' * 5000})

    def write():
        number = 0
        while not ended.wait(0.0002):
            number += 1
            one.write({'n': number, 'filling': 'x' * 5000})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = [found(place)['n'] for _ in range(200)]
    finally:
        ended.set()
        thread.join()
    assert seen == sorted(seen)
    one.close()


def test_a_map_is_json_in_the_file(place):
    one = Slate(place)
    one.write({'ä': [1, None, True]})
    one.close()
    text = place.read_bytes()
    assert json.loads(text[text.index(b'{') :]) == {'ä': [1, None, True]}
