"""Kits: what is in them, and that nothing of a user's is overwritten unasked. What they do is in interop."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from bridge import kit
from bridge.cli import main
from bridge.native import LIBRARY, PREFIX

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('name', kit.KITS)
def test_a_kit_holds_guide_header_and_library_and_nothing_else_but_its_examples(name, tmp_path):
    files = kit.write(name, tmp_path / 'kit')
    assert sorted(p.relative_to(tmp_path / 'kit').as_posix() for p in (tmp_path / 'kit').rglob('*') if p.is_file()) == (
        sorted(files)
    )
    assert {'README.md', 'iblbridge.h'} <= set(files)
    library = next(file for file in files if file.endswith(LIBRARY.suffix))
    assert ctypes.CDLL(str(tmp_path / 'kit' / library)).iblb_version() > 0
    assert (tmp_path / 'kit' / 'iblbridge.h').read_bytes() == (ROOT / 'csrc/include/iblbridge.h').read_bytes()


def test_labview_finds_the_library_by_the_name_it_expects():
    assert f'iblbridge_{kit.BITS}{LIBRARY.suffix}' in kit.contents('labview')


def test_the_installed_examples_are_those_of_the_source_tree(monkeypatch):
    """What a wheel hands out; after a change of the examples of an editable install, install again."""

    def texts(place: Path) -> dict[str, bytes]:
        return {file.relative_to(place).as_posix(): file.read_bytes() for file in kit._files(place)}

    installed = PREFIX / 'share' / 'iblbridge' / 'examples'
    assert texts(installed) == texts(ROOT / 'examples')
    monkeypatch.setattr(kit, '__file__', str(installed / 'bridge' / 'kit.py'))
    assert kit.examples() == installed


def test_the_command_writes_a_kit_and_names_its_guide(tmp_path, capsys):
    assert main(['kit', str(tmp_path / 'deep' / 'kit'), '--c']) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f'Begin with {tmp_path / "deep" / "kit" / "README.md"}'
    assert main(['kit', str(tmp_path / 'deep' / 'kit'), '--c']) == 0, 'the same again is no conflict'


def test_what_a_user_has_changed_is_overwritten_only_if_asked(tmp_path, capsys):
    mine = tmp_path / 'experiment.c'
    mine.write_text('mine')
    assert main(['kit', str(tmp_path), '--c']) == 2
    assert str(mine) in (said := capsys.readouterr().err) and '--force' in said
    assert [file.name for file in tmp_path.iterdir()] == ['experiment.c'], 'nothing was written'
    assert mine.read_text() == 'mine'
    assert main(['kit', str(tmp_path), '--c', '--force']) == 0
    assert mine.read_text() != 'mine'


def test_a_folder_that_can_not_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main(['kit', str(tmp_path / 'file' / 'kit'), '--c']) == 2
    assert str(tmp_path / 'file') in capsys.readouterr().err


@pytest.mark.parametrize('words', [[], ['--c', '--java'], ['--cobol']])
def test_exactly_one_program_is_chosen(words, tmp_path, capsys):
    assert main(['kit', str(tmp_path), *words]) == 2
    assert 'usage' in capsys.readouterr().err
