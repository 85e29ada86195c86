"""What is kept at once: whoever is killed while he keeps it, or finds the disk full, leaves nothing that is untrue."""

from __future__ import annotations

import errno
import itertools
import json
import mmap
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.segment import kept, slate, whole
from bridge.segment.slate import ROOM, Slate, record

# Python 3.12 on: what is killed at a line is forked from whatever runs the tests, and calls nothing that could wait.
pytestmark = pytest.mark.filterwarnings('ignore:.*multi-threaded, use of fork:DeprecationWarning')


@pytest.fixture
def place(tmp_path):
    return kept.place(tmp_path / 'rig', 'listeners')


def found(place, noted=None):
    return kept.load(place.with_name('rig'), 'listeners', noted)


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
    assert line > 20 and found(place) == {'n': 1}
    assert seen == sorted(seen, key=lambda one: one != before), 'first the one and then the other'
    assert all(one in (before, {'n': 1}) for one in seen)
    assert kept.is_place(place.with_name(f'{place.name}.new')), 'nor does doctor wonder what it is'
    place.with_name(f'{place.name}.new').touch()
    kept.forget(place.with_name('rig'))
    assert not list(place.parent.iterdir())


def killed_at(last, what):
    """Do something in a process that is killed at its n-th line of ours or of a path's; tell whether it came so far."""
    if not (pid := os.fork()):
        lines = itertools.count(1)

        def trace(frame, event, argument):
            if not any(part in frame.f_code.co_filename for part in ('bridge/segment/', 'pathlib', 'test_slate')):
                return None
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


class Disk:
    """Where the number is noted, and a file that can be written or not."""

    def __init__(self, noted=0):
        self.noted, self.error, self.tears = noted, 0, False

    def note(self, number):
        self.noted = number

    def open(self, path, mode, **options):
        self.refuse()
        file, disk = open(path, mode, **options), self  # noqa: SIM115 (the slate closes it)

        class File:
            read, seek, close = file.read, file.seek, file.close

            def write(self, said):
                disk.refuse()
                if disk.tears:
                    file.write(said[: len(said) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return file.write(said)

        return File()

    def refuse(self):
        if self.error:
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(slate, 'open', disk.open, raising=False)

    def put(path, content, put=whole.put):
        disk.refuse()
        put(path, content)

    monkeypatch.setattr(whole, 'put', put)
    return disk


@pytest.mark.parametrize('error', [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize('written', [1, 2, 3])
def test_of_a_disk_that_refuses_a_record_no_older_one_is_believed(place, disk, error, written):
    """Where the file could not be removed either, the next worker did again what had been done since."""
    one = Slate(place, disk.noted, disk.note)
    for number in range(written):
        assert one.write({'n': number}) and found(place, disk.noted) == {'n': number}
    for _ in range(2):
        disk.error = error
        assert not one.write({'n': 'refused'}) and found(place) and not found(place, disk.noted)
        disk.error = 0
        assert one.write({'n': 'accepted'}) and found(place, disk.noted) == {'n': 'accepted'}
    one.close()


def test_of_a_successor_that_can_write_nothing_no_predecessors_record_is_believed(place, disk):
    first = Slate(place, disk.noted, disk.note)
    assert first.write({'n': 0}) and first.write({'n': 1})
    first.close()
    disk.noted -= 1  # it was killed right after it had written
    second = Slate(place, disk.noted, disk.note)
    disk.error = errno.EROFS
    assert found(place, disk.noted) == {'n': 1} and not second.write({'n': 2}) and not found(place, disk.noted)
    disk.error = 0
    third = Slate(place, disk.noted, disk.note)
    assert third.write({'n': 3}) and found(place, disk.noted) == {'n': 3}
    third.close()


@given(noted=st.integers(0, 2**32 - 1))
def test_whatever_number_is_noted_what_is_written_then_is_believed(tmp_path_factory, noted):
    place = kept.place(tmp_path_factory.mktemp('noted') / 'rig', 'listeners')
    disk = Disk(noted)
    for number in range(2):
        one = Slate(place, disk.noted, disk.note)
        assert one.write({'n': number}) and found(place, disk.noted % 2**32) == {'n': number}
        assert one.write({'n': 'x'}) and found(place, disk.noted % 2**32) == {'n': 'x'}
        one.close()
        disk.noted = (noted + number * 2**31) % 2**32  # scribbled on


def test_what_is_too_long_is_kept_briefly_and_the_record_before_it_until_then(place, disk):
    one = Slate(place, disk.noted, disk.note)
    assert one.write({'n': 1})

    def briefly():
        assert found(place, disk.noted) == {'n': 1}
        return {'n': 2}

    assert one.write({'n': 'x' * ROOM}, briefly) and found(place, disk.noted) == {'n': 2}
    assert not one.write({'n': 'x' * ROOM}) and not found(place, disk.noted)
    one.close()


@pytest.mark.parametrize('written', [1, 2, 3])
def test_what_is_kept_briefly_goes_over_what_was_not_written_whole_and_not_over_the_last_one(place, disk, written):
    """Who was killed while he wrote it left neither."""
    one = Slate(place, disk.noted, disk.note)
    for number in range(written):
        assert one.write({'n': number})
    disk.tears = True
    one._write({'n': 'full' * 1000})
    one._write({'n': 'brief'})  # and here he is killed
    assert found(place, disk.noted) == {'n': written - 1}
    disk.tears = False
    assert one.write({'n': 'next'}) and found(place, disk.noted) == {'n': 'next'}
    one.close()


@pytest.mark.posix('a process is forked, to be killed at each line')
def test_who_is_killed_while_a_disk_refuses_leaves_what_is_true_or_nothing(place, monkeypatch):
    with mmap.mmap(-1, 2 * mmap.PAGESIZE) as shared:

        def noted():
            return int.from_bytes(shared[:4], 'little')

        def note(number):
            shared[:4] = number.to_bytes(4, 'little')

        def live():
            one = Slate(place, noted(), note)
            for number, refuses in enumerate((False, False, True, False, True, True)):
                disk.error = errno.EIO if refuses else 0
                assert one.write({'n': number}) != refuses
                shared[8] = number + 1

        disk, line, kinds = Disk(), 1, set()
        monkeypatch.setattr(slate, 'open', disk.open, raising=False)
        allowed = [[{}, 0], [0, 1], [1, {}], [{}, 3], [3, {}], [{}], [{}]]
        is_killed = True
        while is_killed:
            place.unlink(missing_ok=True)
            shared[:16] = bytes(16)
            is_killed = killed_at(line, live)
            said = found(place, noted()).get('n', {})
            assert said in allowed[shared[8]], (line, shared[8])
            kinds.add((shared[8], str(said)))
            line += 1
        assert len(kinds) == sum(map(len, allowed)), kinds


@pytest.mark.posix('mounts a small disk')
def test_on_a_real_disk_that_is_full_and_then_can_only_be_read_no_older_record_is_believed(tmp_path):
    small, disk = tmp_path / 'small', Disk()
    small.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small], check=False).returncode:
        pytest.skip('needs the right to mount')
    try:
        place = kept.place(small / 'rig', 'listeners')
        one = Slate(place, disk.noted, disk.note)
        assert one.write({'n': 0}) and one.write({'n': 1})
        assert not one.write({'n': 'x' * 100_000}), 'it is full'
        assert found(place) == {'n': 1} and not found(place, disk.noted)
        assert one.write({'n': 2}) and found(place, disk.noted) == {'n': 2}
        one.close()
        subprocess.run(['mount', '-o', 'remount,ro', small], check=True)
        assert not one.write({'n': 3}) and found(place) == {'n': 2} and not found(place, disk.noted)
        subprocess.run(['mount', '-o', 'remount,rw', small], check=True)
        assert one.write({'n': 4}) and found(place, disk.noted) == {'n': 4}
        one.close()
    finally:
        subprocess.run(['umount', small], check=True)


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
