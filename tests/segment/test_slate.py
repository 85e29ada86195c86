"""What is kept at once: whoever is killed while he keeps it, or finds the disk full, leaves nothing that is untrue."""

from __future__ import annotations

import errno
import json
import os
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
    assert second.write({}) and slate.read(place.read_bytes()) == (7, {})
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
    assert one.write({'n': 1})
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
    text = place.read_bytes()[ROOM:]
    assert json.loads(text[text.index(b'{') :]) == {'ä': [1, None, True]}
