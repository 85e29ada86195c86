"""Disks that a segment cannot be on: each is refused with a sentence that says what would help."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != 'linux', reason='the loader of Linux puts a function in the place of another'),
    pytest.mark.skipif(not shutil.which('cc'), reason='no C compiler'),
]

# What a drive of another kind would say.
DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

int statfs(const char *path, struct statfs *system) {
    int (*real)(const char *, struct statfs *) = dlsym(RTLD_NEXT, "statfs");
    const char *type = getenv("DISK_TYPE");
    int result = real(path, system);
    if (type)
        system->f_type = strtol(type, NULL, 0);
    return result;
}

int fchmod(int file, mode_t mode) {
    int (*real)(int, mode_t) = dlsym(RTLD_NEXT, "fchmod");
    if (!getenv("DISK_NO_MODES"))
        return real(file, mode);
    errno = EPERM;
    return -1;
}

int link(const char *from, const char *to) {
    (void)from, (void)to;
    errno = EPERM;
    return -1;
}
"""


@pytest.fixture(scope='module')
def disk(tmp_path_factory) -> Path:
    """A library that makes any disk one of another kind."""
    folder = tmp_path_factory.mktemp('disk')
    (folder / 'disk.c').write_text(DISK)
    subprocess.run(['cc', '-shared', '-fPIC', '-o', folder / 'disk.so', folder / 'disk.c', '-ldl'], check=True)
    return folder / 'disk.so'


@pytest.mark.parametrize(
    ('kind', 'said'),
    [
        ({'DISK_TYPE': '0x4d44'}, 'is on a drive that keeps no permissions (FAT, exFAT)'),
        ({'DISK_TYPE': '0x2011bab0'}, 'is on a drive that keeps no permissions (FAT, exFAT)'),
        ({'DISK_TYPE': '0x6969'}, 'is on a network file system'),
        ({'DISK_NO_MODES': '1'}, 'keep no permissions (Operation not permitted)'),
        ({}, 'cannot be put into its place'),
    ],
)
def test_a_disk_that_no_segment_can_be_on_is_refused_with_what_would_help(disk, tmp_path, kind, said):
    """It was told to run chmod, which a FAT drive refuses, or that there is no room."""
    tmp_path.chmod(0o777 if kind.get('DISK_TYPE') == '0x4d44' else 0o755)  # as such drives often are
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig']
    environment = {**os.environ, 'LD_PRELOAD': str(disk), **kind}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (2, 3) and done.stdout == ''
    last = done.stderr.splitlines()[-1]
    assert said in last and last.endswith(
        'Set IBLBRIDGE_DIR to a folder on a disk of this computer (NTFS, ext4, APFS, tmpfs).'
    )
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == []
