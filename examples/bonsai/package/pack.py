"""Make the Bonsai package without the SDK of .NET, from compiled operators and what Bonsai.IblBridge.csproj says.

    python pack.py bin/Release -o .

``bin/Release`` has a folder for each target framework with the assembly in it, and the ``.xml`` of its comments, if
there is one: what ``dotnet build -c Release``, or another compiler, has left there. The project file is the only place
that names metadata, dependencies and files; of MSBuild's language as much is understood as stands in it. The parts of a
package are those that ``dotnet pack`` writes.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

HERE = Path(__file__).resolve().parent
NUSPEC = 'http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd'
OPC = 'http://schemas.openxmlformats.org/package/2006/'
CORE = f'{OPC}metadata/core-properties'
# Of the metadata that NuGet knows: the element in the .nuspec and the property of the project, in NuGet's order.
METADATA = {
    'title': 'Title',
    'authors': 'Authors',
    'license': 'PackageLicenseExpression',
    'projectUrl': 'PackageProjectUrl',
    'icon': 'PackageIcon',
    'readme': 'PackageReadmeFile',
    'description': 'Description',
    'copyright': 'Copyright',
    'tags': 'PackageTags',
}


class Project:
    """A project file: its properties, and the items whose conditions hold.

    Parameters
    ----------
    file : Path
        The ``.csproj``.
    given : mapping
        Properties from outside, as with ``dotnet pack -p:Name=Value``; they win.
    """

    def __init__(self, file: Path, given: Mapping[str, str]) -> None:
        self.file = file
        self.root = ElementTree.parse(file).getroot()
        self.properties = dict(given)
        for element in self.root.iterfind('PropertyGroup/*'):
            if element.tag not in given and self._holds(element):
                self.properties[element.tag] = self._expand(element.text or '')

    @property
    def name(self) -> str:
        """The name of package and assembly."""
        return self.file.stem

    @property
    def frameworks(self) -> list[str]:
        """The target frameworks, as folders are called after them."""
        return self.properties['TargetFrameworks'].split(';')

    def items(self, kind: str, framework: str = '', left_out: bool = False) -> Iterator[dict[str, str]]:
        """Yield the attributes of the items of a kind for a target framework; or of those that are left out."""
        for element in self.root.iterfind(f'ItemGroup/{kind}'):
            if self._holds(element, TargetFramework=framework) != left_out:
                yield {name: self._expand(value) for name, value in element.attrib.items()}

    def _expand(self, text: str, **more: str) -> str:
        known = {**self.properties, **more}
        return re.sub(r'\$\((\w+)\)', lambda found: known.get(found[1], ''), text)

    def _holds(self, element: Element, **more: str) -> bool:
        """Whether the condition of an element holds."""
        condition = self._expand(element.get('Condition', "'' == ''"), **more)
        if exists := re.fullmatch(r"(!?)Exists\('([^']*)'\)", condition):
            return (self.file.parent / exists[2]).exists() != bool(exists[1])
        if equal := re.fullmatch(r"'([^']*)' (==|!=) '([^']*)'", condition):
            return (equal[1] == equal[3]) == (equal[2] == '==')
        raise ValueError(f'{self.file}: a condition that is not understood here: {condition}')


def files(project: Project, assemblies: Path) -> dict[str, Path]:
    """Return what a package holds: path in the package to where it is copied from."""
    found = {}
    for framework in project.frameworks:
        for ending in ('.dll', '.xml'):
            file = assemblies / framework / f'{project.name}{ending}'
            if file.exists():
                found[f'lib/{framework}/{file.name}'] = file
    if not found:
        raise FileNotFoundError(f'{assemblies} has no assembly, such as {project.frameworks[0]}/{project.name}.dll')
    for item in project.items('None'):
        file = project.file.parent / item['Include']
        for place in item['PackagePath'].split(';'):
            # As in NuGet: a path that ends like the file is its new name, any other is a folder.
            named = Path(place).suffix == file.suffix
            found[place if named else f'{place}/{file.name}'.lstrip('/')] = file
    return found


def nuspec(project: Project, frameworks: Sequence[str]) -> Element:
    """Return the manifest of a package."""
    package = Element('package', xmlns=NUSPEC)
    metadata = SubElement(package, 'metadata')
    SubElement(metadata, 'id').text = project.name
    SubElement(metadata, 'version').text = project.properties['Version']
    for tag, name in METADATA.items():
        if name not in project.properties:
            continue
        element = SubElement(metadata, tag)
        element.text = project.properties[name]
        if tag == 'license':
            element.set('type', 'expression')
            SubElement(metadata, 'licenseUrl').text = f'https://licenses.nuget.org/{element.text}'
    types = SubElement(metadata, 'packageTypes')
    for kind in project.properties['PackageType'].split(';'):
        SubElement(types, 'packageType', name=kind)
    dependencies = SubElement(metadata, 'dependencies')
    for framework in frameworks:
        group = SubElement(dependencies, 'group', targetFramework=full_name(framework))
        for item in project.items('PackageReference', framework):
            SubElement(group, 'dependency', id=item['Include'], version=item['Version'], exclude='Build,Analyzers')
    return package


def full_name(framework: str) -> str:
    """Return the name of a target framework as manifests say it: ``.NETFramework4.6.2`` for ``net462``."""
    if standard := re.fullmatch(r'netstandard(\d+\.\d+)', framework):
        return f'.NETStandard{standard[1]}'
    if classic := re.fullmatch(r'net(\d{2,3})', framework):
        return f'.NETFramework{".".join(classic[1])}'
    raise ValueError(f'a target framework that is not understood here: {framework}')


def relationships(manifest: str, core: str) -> Element:
    """Return the part that says which parts are the manifest and the core properties."""
    root = Element('Relationships', xmlns=f'{OPC}relationships')
    kinds = {
        manifest: 'http://schemas.microsoft.com/packaging/2010/07/manifest',
        core: f'{OPC}relationships/metadata/core-properties',
    }
    for target, kind in kinds.items():
        SubElement(root, 'Relationship', Type=kind, Target=f'/{target}', Id=f'R{digest(target)[:16].upper()}')
    return root


def content_types(names: Sequence[str]) -> Element:
    """Return the part that says of what type each other one is."""
    root = Element('Types', xmlns=f'{OPC}content-types')
    known = {
        'rels': 'application/vnd.openxmlformats-package.relationships+xml',
        'psmdcp': 'application/vnd.openxmlformats-package.core-properties+xml',
    }
    endings = sorted({Path(name).suffix[1:] for name in names} - set(known))
    for ending, kind in {**known, **dict.fromkeys(endings, 'application/octet')}.items():
        SubElement(root, 'Default', Extension=ending, ContentType=kind)
    return root


def core_properties(project: Project) -> Element:
    """Return the part with the same metadata as other packages of this format have it."""
    spaces = {
        'xmlns': CORE,
        'xmlns:dc': 'http://purl.org/dc/elements/1.1/',
        'xmlns:dcterms': 'http://purl.org/dc/terms/',
        'xmlns:xsi': 'http://www.w3.org/2001/XMLSchema-instance',
    }
    root = Element('coreProperties', spaces)
    SubElement(root, 'dc:creator').text = project.properties['Authors']
    SubElement(root, 'dc:description').text = project.properties['Description']
    SubElement(root, 'dc:identifier').text = project.name
    SubElement(root, 'version').text = project.properties['Version']
    SubElement(root, 'keywords').text = project.properties['PackageTags']
    SubElement(root, 'lastModifiedBy').text = 'pack.py'
    return root


def digest(text: str) -> str:
    """Return a name that is the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


def pack(project: Project, assemblies: Path, folder: Path) -> Path:
    """Write a package, the same bytes for the same files, and return where it is."""
    held = files(project, assemblies)
    version = project.properties['Version']
    manifest = f'{project.name}.nuspec'
    core = f'package/services/metadata/core-properties/{digest(project.name + version)[:32]}.psmdcp'
    compiled = [name for name in project.frameworks if f'lib/{name}/{project.name}.dll' in held]
    parts = {
        '_rels/.rels': relationships(manifest, core),
        manifest: nuspec(project, compiled),
        core: core_properties(project),
        '[Content_Types].xml': content_types([manifest, *held]),
    }
    target = folder / f'{project.name}.{version}.nupkg'
    with zipfile.ZipFile(target, 'w') as archive:
        for name, element in parts.items():
            ElementTree.indent(element)
            archive.writestr(entry(name), ElementTree.tostring(element, 'utf-8', xml_declaration=True))
        for name, file in held.items():
            archive.writestr(entry(name), file.read_bytes())
    return target


def entry(name: str) -> zipfile.ZipInfo:
    """Return the entry of a part: compressed, without a time or an owner."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 0
    return info


def main(words: Sequence[str] | None = None) -> int:
    """Make the package and say what is in it; 1 if there is nothing to make it of."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('assemblies', type=Path, help='the folder with net462/Bonsai.IblBridge.dll and the like')
    parser.add_argument('-o', '--output', type=Path, default=Path(), help='where to; the current folder')
    parser.add_argument('-p', '--property', action='append', default=[], metavar='NAME=VALUE', help='of the project')
    arguments = parser.parse_args(words)
    given = dict(word.split('=', 1) for word in arguments.property)
    project = Project(HERE / 'Bonsai.IblBridge.csproj', given)
    try:
        target = pack(project, arguments.assemblies, arguments.output)
    except OSError as e:
        print(f'pack.py: {e}', file=sys.stderr)
        return 1
    print(target)
    print(*(f'  {name}' for name in zipfile.ZipFile(target).namelist()), sep='\n')
    for item in project.items('None', left_out=True):
        print(f'  without {item["Include"]}: there is none')
    return 0


if __name__ == '__main__':
    sys.exit(main())
