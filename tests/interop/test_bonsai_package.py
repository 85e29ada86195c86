"""The Bonsai package that ``package/pack.py`` makes: its parts are those of a package of NuGet, and it is used as one.

There is no SDK of .NET here. What a package consists of was read in NuGet's own sources (PackageBuilder, nuspec.xsd),
where it lies for Bonsai in Bonsai's (PackageConfigurationUpdater).
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from guides import ROOT, require, run

from bridge import kit
from bridge.native import PREFIX

HERE = Path(__file__).with_name('bonsai')
ID = 'Bonsai.IblBridge'
NUSPEC = '{http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd}'
RELATIONSHIPS = '{http://schemas.openxmlformats.org/package/2006/relationships}'
TYPES = '{http://schemas.openxmlformats.org/package/2006/content-types}'
CORE = '{http://schemas.openxmlformats.org/package/2006/metadata/core-properties}'
DC = '{http://purl.org/dc/elements/1.1/}'
FRAMEWORKS = {'net462': ('.NETFramework4.6.2', '2.6.0'), 'netstandard2.0': ('.NETStandard2.0', '2.7.0')}
NATIVE = {
    'iblbridge_64.dll': ['build/native/bin/x64/iblbridge.dll', 'runtimes/win-x64/native/iblbridge.dll'],
    'iblbridge_32.dll': ['build/native/bin/x86/iblbridge.dll', 'runtimes/win-x86/native/iblbridge.dll'],
    'libiblbridge.so': ['runtimes/linux-x64/native/libiblbridge.so'],
}


@pytest.fixture(scope='session')
def compiled(kit_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``dotnet build`` would leave, with what mcs makes of the operators."""
    require('mcs', 'mono')
    place = tmp_path_factory.mktemp('Release')
    rx = ['System.Reactive.Core', 'System.Reactive.Interfaces', 'System.Reactive.Linq']
    core = [f'-r:{name}.dll' for name in ('System', 'System.Core', 'System.Xml')]
    strict = ['mcs', '-langversion:5', '-nologo', '-noconfig', '-target:library', *core]
    words = [*strict, '-out:Bonsai.Core.dll', *(f'-r:{name}.dll' for name in rx), HERE / 'BonsaiCore.cs']
    assert run(words, place).returncode == 0
    sources = sorted((kit_of('bonsai') / 'Extensions').glob('*.cs'))
    words = [*strict, f'-doc:{ID}.xml', f'-out:{ID}.dll', '-r:System.Reactive.Linq.dll', '-r:Bonsai.Core.dll', *sources]
    done = run(words, place)
    assert done.returncode == 0, done.stderr
    for framework in FRAMEWORKS:
        (place / framework).mkdir()
        for ending in ('dll', 'xml'):
            shutil.copy(place / f'{ID}.{ending}', place / framework)
    return place


def pack(folder: Path, assemblies: Path, out: Path, *more: object) -> zipfile.ZipFile:
    """Make a package as the guide says, with the pack.py of a folder, and open it."""
    done = run([sys.executable, 'pack.py', assemblies, '-o', out, *more], folder)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    (made,) = out.glob('*.nupkg')
    assert done.stdout.splitlines()[0] == str(made)
    return zipfile.ZipFile(made)


@pytest.fixture(scope='session')
def package(kit_of, compiled, tmp_path_factory) -> zipfile.ZipFile:
    """The package of the kit."""
    return pack(kit_of('bonsai') / 'package', compiled, tmp_path_factory.mktemp('nupkg'))


def read(package: zipfile.ZipFile, name: str) -> ET.Element:
    """Return a part that is XML."""
    return ET.fromstring(package.read(name))


def metadata(package: zipfile.ZipFile) -> ET.Element:
    """Return the metadata of its manifest."""
    root = read(package, f'{ID}.nuspec')
    assert root.tag == f'{NUSPEC}package'
    (found,) = root
    assert found.tag == f'{NUSPEC}metadata'
    return found


def native(names: list[str]) -> list[str]:
    """Return the libraries among the parts of a package."""
    return sorted(name for name in names if re.search(r'iblbridge\.(?:dll|so)$', name))


# -- its parts


def test_it_holds_what_a_package_of_nuget_holds_and_what_was_there(package):
    names = package.namelist()
    assert len(names) == len(set(names))
    (core,) = [name for name in names if name.endswith('.psmdcp')]
    assert re.fullmatch(r'package/services/metadata/core-properties/[0-9a-f]{32}\.psmdcp', core)
    there = [place for file, places in NATIVE.items() if file in names_in_kit() for place in places]
    assert sorted(names) == sorted(
        [
            *['_rels/.rels', '[Content_Types].xml', core, f'{ID}.nuspec', 'README.md', 'icon.png'],
            *[f'lib/{framework}/{ID}.{ending}' for framework in FRAMEWORKS for ending in ('dll', 'xml')],
            f'build/net462/{ID}.targets',
            *there,
        ]
    )
    assert package.filename.endswith(f'/{ID}.{metadata(package).findtext(f"{NUSPEC}version")}.nupkg')
    assert package.testzip() is None


def names_in_kit() -> set[str]:
    """Return the libraries that are installed, and so in the kit."""
    return {Path(place).name for place in kit.libraries('bonsai')}


def test_each_part_has_a_type_and_the_two_that_matter_are_related(package):
    types = read(package, '[Content_Types].xml')
    assert types.tag == f'{TYPES}Types'
    by_ending = {element.get('Extension'): element.get('ContentType') for element in types.iter(f'{TYPES}Default')}
    assert by_ending['rels'] == 'application/vnd.openxmlformats-package.relationships+xml'
    assert by_ending['psmdcp'] == 'application/vnd.openxmlformats-package.core-properties+xml'
    names = set(package.namelist()) - {'[Content_Types].xml'}
    assert {Path(name).suffix[1:] or Path(name).name[1:] for name in names} == set(by_ending)
    assert {by_ending[ending] for ending in ('dll', 'nuspec', 'targets', 'png', 'md', 'xml')} == {'application/octet'}
    related = {element.get('Type'): element for element in read(package, '_rels/.rels')}
    manifest = related['http://schemas.microsoft.com/packaging/2010/07/manifest']
    core = related['http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties']
    assert len(related) == 2 and manifest.tag == f'{RELATIONSHIPS}Relationship'
    assert manifest.get('Target') == f'/{ID}.nuspec' and core.get('Target')[1:] in names
    assert all(re.fullmatch(r'R[0-9A-F]{16}', element.get('Id')) for element in related.values())


def test_the_manifest_says_what_the_project_says(package):
    project = ET.parse(kit.examples() / 'bonsai' / 'package' / f'{ID}.csproj').getroot()
    said = {element.tag: element.text for element in project.iterfind('PropertyGroup/*')}
    found = metadata(package)
    texts = {element.tag.removeprefix(NUSPEC): element.text for element in found if not len(element)}
    assert texts == {
        'id': ID,
        'version': said['Version'],
        'title': said['Title'],
        'authors': 'iblbridge developers',
        'license': 'MIT',
        'licenseUrl': 'https://licenses.nuget.org/MIT',
        'icon': 'icon.png',
        'readme': 'README.md',
        'description': said['Description'],
        'copyright': said['Copyright'],
        'tags': said['PackageTags'],
    }
    assert found.find(f'{NUSPEC}license').attrib == {'type': 'expression'}
    types = [element.attrib for element in found.iterfind(f'{NUSPEC}packageTypes/{NUSPEC}packageType')]
    assert types == [{'name': 'Dependency'}, {'name': 'BonsaiLibrary'}]
    assert 'Bonsai' in texts['tags'].split()  # else Bonsai's package manager does not see it
    core = read(package, next(name for name in package.namelist() if name.endswith('.psmdcp')))
    assert core.tag == f'{CORE}coreProperties'
    assert [core.findtext(tag) for tag in (f'{DC}creator', f'{DC}identifier', f'{CORE}version')] == [
        texts['authors'],
        ID,
        said['Version'],
    ]


def test_version_licence_and_copyright_are_the_projects(package):
    version = re.search(r'^version = "(.*)"$', (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)
    found = metadata(package)
    assert version and found.findtext(f'{NUSPEC}version') == version[1]
    licence = (ROOT / 'LICENSE').read_text()
    assert licence.startswith('MIT License') and found.findtext(f'{NUSPEC}copyright') in licence


def test_each_framework_has_an_assembly_and_depends_on_a_bonsai_core_that_there_is(package):
    groups = list(metadata(package).iterfind(f'{NUSPEC}dependencies/{NUSPEC}group'))
    assert [group.attrib for group in groups] == [{'targetFramework': name} for name, _ in FRAMEWORKS.values()]
    for group, (_, version) in zip(groups, FRAMEWORKS.values(), strict=True):
        assert [item.attrib for item in group] == [
            {'id': 'Bonsai.Core', 'version': version, 'exclude': 'Build,Analyzers'}
        ]
    held = {name.split('/')[1] for name in package.namelist() if name.startswith('lib/')}
    assert held == set(FRAMEWORKS)


def test_the_icon_is_a_png_of_128_pixels(package):
    data = package.read('icon.png')
    assert data.startswith(b'\x89PNG\r\n\x1a\n') and data[12:16] == b'IHDR' and data.endswith(b'IEND\xaeB`\x82')
    assert struct.unpack('>II', data[16:24]) == (128, 128) and len(data) < 1 << 20


# -- its libraries


def test_each_library_is_in_the_folders_where_the_client_looks(package, csharp_names):
    names = package.namelist()
    looked = {
        ('win', 64): 'iblbridge_64.dll',
        ('win', 32): 'iblbridge_32.dll',
        ('linux', 64): 'libiblbridge.so',
    }
    for (system, bits), file in looked.items():
        places = csharp_names['package', system, bits]
        assert set(places) >= set(NATIVE[file])
        if file in names_in_kit():
            source = PREFIX / ('lib' if file.endswith('.so') else 'bin') / file
            assert [package.read(place) for place in places if place in names] == [source.read_bytes()] * len(
                NATIVE[file]
            )


def test_the_targets_copy_the_libraries_to_where_the_client_looks(package, csharp_names):
    targets = read(package, f'build/net462/{ID}.targets')
    folder = targets.findtext('PropertyGroup/IblBridgeFolder')
    assert folder == '$(MSBuildThisFileDirectory)../native/bin'
    items = list(targets.iter('None'))
    for item, bits, machine in zip(items, (64, 32), ('x64', 'x86'), strict=True):
        assert item.get('Include') == f'$(IblBridgeFolder)/{machine}/iblbridge.dll'
        assert item.get('Condition') == f"Exists('{item.get('Include')}')"
        assert item.get('Link') in csharp_names['beside', 'win', bits]
        assert item.get('CopyToOutputDirectory') == 'PreserveNewest'


@pytest.mark.parametrize('there', [(), ('iblbridge_64.dll',), tuple(NATIVE)])
def test_it_packs_what_there_is_and_names_what_there_is_not(there, kit_of, compiled, tmp_path):
    (tmp_path / 'native').mkdir()
    for file in there:
        (tmp_path / 'native' / file).write_text(file)
    words = [sys.executable, 'pack.py', compiled, '-o', tmp_path, '-p', f'NativeFolder={tmp_path / "native"}']
    done = run(words, kit_of('bonsai') / 'package')
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob('*.nupkg'))) as archive:
        assert native(archive.namelist()) == sorted(place for file in there for place in NATIVE[file])
        assert all(archive.read(place) == file.encode() for file in there for place in NATIVE[file])
    left_out = re.findall(r'without \S*/(\S+): there is none', done.stdout)
    assert set(left_out) == set(NATIVE) - set(there)


# -- how it is made


def test_the_source_tree_makes_the_same_as_the_kit(package, compiled, tmp_path):
    folder = kit.examples() / 'bonsai' / 'package'
    (tmp_path / 'native').mkdir()
    for place, source in kit.libraries('bonsai').items():
        shutil.copy(source, tmp_path / 'native' / Path(place).name)
    (tmp_path / 'out').mkdir()
    again = pack(folder, compiled, tmp_path / 'out', '-p', f'NativeFolder={tmp_path / "native"}')
    assert Path(again.filename).read_bytes() == Path(package.filename).read_bytes()


def test_the_address_of_the_help_is_given_when_it_is_packed(kit_of, compiled, tmp_path):
    help_ = 'https://example.org/iblbridge'
    package = pack(kit_of('bonsai') / 'package', compiled, tmp_path, '-p', f'PackageProjectUrl={help_}')
    assert metadata(package).findtext(f'{NUSPEC}projectUrl') == help_


def test_one_framework_alone_makes_a_package_of_it(kit_of, compiled, tmp_path):
    alone = tmp_path / 'Release' / 'net462'
    alone.mkdir(parents=True)
    shutil.copy(compiled / 'net462' / f'{ID}.dll', alone)
    package = pack(kit_of('bonsai') / 'package', tmp_path / 'Release', tmp_path)
    assert [name for name in package.namelist() if name.startswith('lib/')] == [f'lib/net462/{ID}.dll']
    (group,) = metadata(package).iterfind(f'{NUSPEC}dependencies/{NUSPEC}group')
    assert group.attrib == {'targetFramework': '.NETFramework4.6.2'}


def test_without_an_assembly_it_says_so(kit_of, tmp_path):
    done = run([sys.executable, 'pack.py', tmp_path, '-o', tmp_path], kit_of('bonsai') / 'package')
    assert done.returncode == 1
    assert done.stderr == f'pack.py: {tmp_path} has no assembly, such as net462/{ID}.dll\n'
    assert not list(tmp_path.iterdir())


# -- how it is used


def test_a_program_that_refers_to_the_unpacked_package_loads_the_library_from_it(package, compiled, tmp_path):
    place = tmp_path / 'Packages' / f'{ID}.0.1.0'
    package.extractall(place)
    (tmp_path / 'Look.cs').write_text(
        'static class Look { static void Main() { System.Console.WriteLine('
        'IblBridge.BridgeClient.ErrorText(IblBridge.Status.E_PARTIAL)); } }'
    )
    assembly = place / 'lib' / 'net462' / f'{ID}.dll'
    assert run(['mcs', f'-r:{assembly}', 'Look.cs'], tmp_path).returncode == 0
    done = run(f'MONO_PATH={assembly.parent}:{compiled} mono Look.exe', tmp_path)  # compiled: the stand-in for Bonsai
    assert done.stdout.startswith('Some services did'), done.stdout + done.stderr
