"""Kits: what is in them, and that nothing of a user's is overwritten unasked. What they do is in interop."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
from sources import ROOT

from bridge import kit
from bridge.cli import main
from bridge.native import HEADER, LIBRARY, PREFIX

WINDOWS = [f'{place}/iblbridge_{bits}.{end}' for bits in (64, 32) for place, end in (('bin', 'dll'), ('lib', 'lib'))]
OWN = {'linux': ['lib/libiblbridge.so'], 'macos': ['lib/libiblbridge.dylib'], 'windows': []}

WITH_LIBRARY = [name for name in kit.KITS if name != 'python']  # which the package brings


def installation(place: Path, *files: str) -> Path:
    """Return an installation that has these libraries, each with its own path in it."""
    for file in (f'include/{HEADER}', *files):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(file)
    return place


def names(files: dict[str, Path]) -> set[str]:
    """Return the libraries among the files of a kit, and what belongs to them."""
    return {file for file in files if re.search(r'\.(?:so|dylib|dll|lib)$', file)}


def test_a_folder_without_a_name_as_of_a_variable_that_is_not_set_is_not_this_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['kit', '--c', '']) == 2
    assert 'the folder has no name' in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(['kit', '--c', '.']) == 0


@pytest.mark.parametrize('name', kit.KITS)
def test_a_kit_holds_guide_and_header_and_nothing_else_but_its_library_and_examples(name, tmp_path):
    files = kit.write(name, tmp_path / 'kit')
    assert sorted(p.relative_to(tmp_path / 'kit').as_posix() for p in (tmp_path / 'kit').rglob('*') if p.is_file()) == (
        sorted(files)
    )
    assert {'README.md', 'iblbridge.h'} <= set(files)
    assert (tmp_path / 'kit' / 'iblbridge.h').read_bytes() == (ROOT / 'csrc/include/iblbridge.h').read_bytes()


@pytest.mark.parametrize('name', WITH_LIBRARY)
def test_a_kit_holds_a_library_that_can_be_loaded(name, tmp_path):
    kit.write(name, tmp_path / 'kit')
    (library,) = (place for place, source in kit.libraries(name).items() if source == LIBRARY)
    assert ctypes.CDLL(str(tmp_path / 'kit' / library)).iblb_version() > 0


# -- the libraries of all systems


@pytest.mark.parametrize('system', OWN)
@pytest.mark.parametrize('name', WITH_LIBRARY)
def test_a_kit_written_anywhere_holds_the_own_library_and_those_of_windows(name, system, tmp_path):
    prefix = installation(tmp_path, *OWN[system], *WINDOWS)
    files = kit.contents(name, prefix)
    wanted = {Path(file).name for file in OWN[system]} | {'iblbridge_64.dll', 'iblbridge_32.dll'}
    if name == 'labview':
        wanted = {re.sub(r'^libiblbridge\b', f'iblbridge_{kit.BITS}', file) for file in wanted}
    if name in ('c', 'cpp'):
        wanted |= {'iblbridge_64.lib', 'iblbridge_32.lib'}
    folder = 'Extensions/' if name == 'bonsai' else ''
    assert names(files) == {folder + file for file in wanted}
    for place in names(files):  # each is what its name says
        said = files[place].read_text()
        assert Path(place).suffix == Path(said).suffix
        assert place.endswith('.so') or place.endswith('.dylib') or Path(said).name == Path(place).name
    assert files[HEADER] == prefix / 'include' / HEADER


def test_labview_finds_the_library_by_the_name_it_expects():
    assert f'iblbridge_{kit.BITS}{LIBRARY.suffix}' in kit.contents('labview')


@pytest.mark.parametrize(
    ('there', 'lacking'),
    [
        (WINDOWS, []),
        ([file for file in WINDOWS if '64' in file], ['iblbridge_32.dll']),
        ([], ['iblbridge_64.dll', 'iblbridge_32.dll']),
    ],
)
def test_what_was_not_built_is_not_in_the_kit_and_is_told(there, lacking, tmp_path, monkeypatch, capsys):
    prefix = installation(tmp_path / 'installed', 'lib/libiblbridge.so', *there)
    for name in kit.KITS:
        assert not {Path(file).name for file in kit.contents(name, prefix)} & set(lacking)
    assert kit.missing('c', prefix) == lacking
    monkeypatch.setattr(kit.missing, '__defaults__', (prefix,))
    assert main(['kit', str(tmp_path / 'kit'), '--c']) == 0
    *_, told, last = capsys.readouterr().out.splitlines()
    assert last.startswith('Begin with ')
    if lacking:
        assert told.startswith(f'Not in this kit: {" and ".join(lacking)}, for programs on Windows. ')
        assert 'install a released wheel of it, or MinGW' in told
    else:
        assert 'Not in this kit' not in told


def test_a_kit_that_holds_no_library_lacks_none(tmp_path, monkeypatch, capsys):
    """That of Python said that the DLLs of Windows are not in it, and to install MinGW."""
    monkeypatch.setattr(kit.missing, '__defaults__', (installation(tmp_path / 'installed', 'lib/libiblbridge.so'),))
    assert main(['kit', '--python', str(tmp_path / 'kit')]) == 0
    assert 'Not in this kit' not in capsys.readouterr().out


# -- the examples


def test_the_installed_examples_are_those_of_the_source_tree(monkeypatch):
    """What a wheel hands out; after a change of the examples of an editable install, install again."""

    def texts(place: Path) -> dict[str, bytes]:
        return {file.relative_to(place).as_posix(): file.read_bytes() for file in kit._files(place)}

    installed = PREFIX / 'share' / 'iblbridge' / 'examples'
    assert texts(installed) == texts(ROOT / 'examples')
    monkeypatch.setattr(kit, '__file__', str(installed / 'bridge' / 'kit.py'))
    assert kit.examples() == installed


# -- the command


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


def test_what_is_the_same_is_left_alone(tmp_path, monkeypatch):
    """A program has the library loaded, and Windows replaces no such file."""
    kit.write('labview', tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, 'Access is denied')

    monkeypatch.setattr(Path, 'replace', refuse)
    assert kit.write('labview', tmp_path)


def test_a_library_that_windows_does_not_replace_is_a_sentence_and_nothing_is_left_beside_it(
    tmp_path, monkeypatch, capsys
):
    kit.write('labview', tmp_path)
    before = sorted(tmp_path.iterdir())
    mine = tmp_path / 'iblbridge.h'
    mine.write_text('loaded')

    def refuse(*_: object) -> None:
        raise PermissionError(13, 'Access is denied')

    monkeypatch.setattr(Path, 'replace', refuse)
    assert main(['kit', str(tmp_path), '--labview', '--force']) == 2
    assert capsys.readouterr().err == f'iblbridge kit: {mine}: is in use; end the programs that have loaded it\n'
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_can_not_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main(['kit', str(tmp_path / 'file' / 'kit'), '--c']) == 2
    assert str(tmp_path / 'file') in capsys.readouterr().err


@pytest.mark.parametrize('words', [[], ['--c', '--java'], ['--cobol']])
def test_exactly_one_program_is_chosen(words, tmp_path, capsys):
    assert main(['kit', str(tmp_path), *words]) == 2
    assert 'usage' in capsys.readouterr().err
