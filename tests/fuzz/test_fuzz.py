"""What the fuzzers have found stays found, and each gets some seconds to find more.

Longer: ``python tests/fuzz/run.py``. That they find planted bugs: ``pytest -m long tests/fuzz/test_fuzz.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import run

pytestmark = pytest.mark.timeout(900)  # four programs are built by clang
SECONDS = float(os.environ.get('IBLBRIDGE_FUZZ_SECONDS', '10'))


@pytest.fixture(scope='module')
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if why := run.missing():
        if 'CI' in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    return run.build(tmp_path_factory.mktemp('fuzzers'))


@pytest.mark.parametrize('target', run.TARGETS)
def test_what_was_found_once_is_harmless(target, programs):
    inputs = sorted((run.CORPUS / target).iterdir())
    assert len(inputs) > 10
    assert not run.replay(programs[target], inputs)


@pytest.fixture(scope='module')
def results(
    programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[run.Result, list[str]]]:
    """All of them, at the same time."""

    def one(target: str) -> tuple[run.Result, list[str]]:
        grown, found = tmp_path_factory.mktemp('grown'), tmp_path_factory.mktemp('found')
        result = run.fuzz(programs[target], run.CORPUS / target, grown, found, SECONDS, run.LONGEST[target])
        return result, [path.read_bytes().hex() for path in found.iterdir()]

    with ThreadPoolExecutor() as pool:
        return dict(zip(run.TARGETS, pool.map(one, run.TARGETS), strict=True))


@pytest.mark.parametrize('target', run.TARGETS)
def test_nothing_new_is_found_in_a_short_run(target, results):
    result, inputs = results[target]
    assert not result.finding, f'{result.finding}\nthe input, to be kept in {run.CORPUS / target}: {inputs}'
    assert result.runs > len(list((run.CORPUS / target).iterdir())), 'it came to no input of its own'


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in run.CORPUS.rglob('*') if path.is_file()) < 200_000


PLANTED = {
    'a record may reach beyond the end of its ring': (
        'worker',
        'ring.c',
        'header->bytes > to_end || ',
        '',
    ),
    'the payload of a command is not held against its record': (
        'worker',
        'queue.c',
        'record->payload_bytes > header.bytes - sizeof *record ||',
        '',
    ),
    'the payload of a response is not held against its record': (
        'client',
        'waiting.c',
        ' || record.payload_bytes > header.bytes - sizeof record',
        '',
    ),
    'the payload of what was asked is not held against its record': (
        'serving',
        'asked.c',
        'record->payload_bytes > header.bytes - sizeof *record ||',
        '',
    ),
    'nesting is not bounded': ('json', 'json.c', 'if (depth == JSON_MAX_DEPTH) {', 'if (depth < 0) {'),
    'a ring is wiped beyond its end': (
        'worker',
        'ring.c',
        'uint64_t first = bytes < to_end ? bytes : to_end;',
        'uint64_t first = bytes;',
    ),
    'what an owner that lives has not read yet is wiped': (
        'worker',
        'view.c',
        '    if (!view->reclaimed && !take_over(view, segment))',
        '    wipe_rest(view);\n    if (!view->reclaimed && !take_over(view, segment))',
    ),
    'a command of another generation is believed': (
        'worker',
        'queue.c',
        '(int32_t)(generation - record->generation) < 0 ||',
        '',
    ),
}
"""The check that is left out, the file it stands in, and who must notice."""


@pytest.mark.long
@pytest.mark.parametrize('bug', PLANTED)
def test_a_planted_bug_is_found_within_a_minute_when(bug, tmp_path):
    if why := run.missing():
        pytest.skip(why)
    target, file, before, after = PLANTED[bug]
    sources = shutil.copytree(run.SOURCES, tmp_path / 'csrc')
    text = (sources / file).read_text()
    assert before in text
    (sources / file).write_text(text.replace(before, after, 1))
    program = run.build(tmp_path, sources, (target,))[target]
    (tmp_path / 'grown').mkdir()
    assert run.fuzz(program, run.CORPUS / target, tmp_path / 'grown', tmp_path, 60, run.LONGEST[target]).finding
