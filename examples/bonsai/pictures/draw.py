"""Draw the workflows of this kit as Bonsai shows them: nodes from left to right, called after what they do.

    python draw.py           write a picture of each workflow into this folder
    python draw.py --check   exit 1, naming the pictures that are out of date

A node stands in the column after that of its last input. The first input of a node lies in its row, each further one
in a row below; a node without an input stands right before the one that it leads to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

HERE = Path(__file__).resolve().parent
BONSAI = '{https://bonsai-rx.org/2018/workflow}'
KIND = '{http://www.w3.org/2001/XMLSchema-instance}type'
# The property of a node that Bonsai writes under it; of others it writes the type.
NAMED_BY = {
    'Request': 'Message',
    'SendCommand': 'Message',
    'Tell': 'Message',
    'BridgeEvents': 'Events',
    'Serve': 'Messages',
    'CreateBridge': 'Name',
}
SINKS = ('SendCommand', 'Answer', 'Fail', 'Tell')
COLOURS = {'source': '#b39ddb', 'combinator': '#90caf9', 'sink': '#b0bec5', 'nested': '#ffe082', 'other': '#ffffff'}
STEP_X, STEP_Y, RADIUS = 130, 80, 16  # px


class Node(NamedTuple):
    """A node: what is written under it, the kind that gives its colour, and its inputs in order."""

    label: str
    kind: str
    inputs: list[int]


def text(element: Element, name: str) -> str:
    """Return the text of the child of this name, in whatever namespace; '' if there is none."""
    return next((child.text or '' for child in element if child.tag.split('}')[-1] == name), '')


def label_and_kind(expression: Element, has_input: bool) -> tuple[str, str]:
    """Return what Bonsai writes under a node, and its kind; `has_input` says whether elements come to it."""
    kind = expression.get(KIND, '')
    if kind == 'Combinator':
        combinator = next(iter(expression))
        name = combinator.get(KIND, '').split(':')[-1]
        colour = 'sink' if name in SINKS else 'combinator' if has_input else 'source'
        named = text(combinator, NAMED_BY.get(name, ''))  # of several messages those in the file have no commas
        if name in ('BridgeEvents', 'Serve'):
            named = ', '.join(named.split())
        return named or name, colour
    if kind == 'GroupWorkflow':
        return text(expression, 'Name'), 'nested'
    if kind == 'IncludeWorkflow':
        return Path(expression.get('Path', '')).stem, 'nested'
    if kind == 'ExternalizedMapping':
        names = [item.get('DisplayName') or item.get('Name', '') for item in expression]
        return ', '.join(names), 'other'
    return text(expression, 'Name') or kind, 'source' if kind == 'WorkflowInput' else 'other'


def nodes_of(file: Path) -> list[Node]:
    """Return the nodes of the outermost workflow of a file."""
    workflow = ElementTree.parse(file).getroot().find(f'{BONSAI}Workflow')
    assert workflow is not None, file
    edges = sorted(
        (int(edge.get('To', '')), edge.get('Label', ''), int(edge.get('From', '')))
        for edge in workflow.iterfind(f'{BONSAI}Edges/{BONSAI}Edge')
    )
    expressions = workflow.findall(f'{BONSAI}Nodes/{BONSAI}Expression')
    nodes = []
    for number, expression in enumerate(expressions):
        inputs = [source for target, _, source in edges if target == number]
        elements = any(expressions[source].get(KIND) != 'ExternalizedMapping' for source in inputs)
        nodes.append(Node(*label_and_kind(expression, elements), inputs))
    return nodes


def places(nodes: Sequence[Node]) -> dict[int, tuple[int, int]]:
    """Return column and row of each node."""
    depth: dict[int, int] = {}

    def deepen(number: int) -> int:
        depth[number] = 1 + max(map(deepen, nodes[number].inputs), default=-1)
        return depth[number]

    found: dict[int, tuple[int, int]] = {}

    def place(number: int, column: int, row: int) -> int:
        """Place a node and its inputs, and return the last row that they take."""
        found[number] = (column, row)
        last = row
        for index, source in enumerate(nodes[number].inputs):
            last = place(source, column - 1, row if index == 0 else last + 1)
        return last

    used = {source for node in nodes for source in node.inputs}
    row = 0
    for number in range(len(nodes)):
        if number not in used:
            row = place(number, deepen(number), row) + 1
    return found


def svg(nodes: Sequence[Node], at: Mapping[int, tuple[int, int]]) -> str:
    """Return the picture."""
    width = (1 + max(column for column, _ in at.values())) * STEP_X
    height = (1 + max(row for _, row in at.values())) * STEP_Y
    centre = {n: (column * STEP_X + STEP_X // 2, row * STEP_Y + STEP_Y // 2 - 8) for n, (column, row) in at.items()}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'  <rect width="{width}" height="{height}" fill="#ffffff" />',
    ]
    for number, node in enumerate(nodes):
        x, y = centre[number]
        for source in node.inputs:
            from_x, from_y = centre[source]
            middle = x - STEP_X // 2
            path = f'M{from_x} {from_y} C{middle} {from_y} {middle} {y} {x} {y}'
            lines.append(f'  <path d="{path}" fill="none" stroke="#607d8b" stroke-width="2" />')
    for number, node in enumerate(nodes):
        x, y = centre[number]
        colour = COLOURS[node.kind]
        lines.append(f'  <circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{colour}" stroke="#37474f" stroke-width="2" />')
        lines.append(
            f'  <text x="{x}" y="{y + RADIUS + 16}" text-anchor="middle" font-family="sans-serif" font-size="12">'
            f'{escape(node.label)}</text>'
        )
    return '\n'.join([*lines, '</svg>', ''])


def pictures(kit: Path) -> dict[Path, str]:
    """Return the picture of each workflow of a kit, by where it lies."""
    found = {}
    for file in sorted([*kit.glob('*.bonsai'), *kit.glob('Extensions/*.bonsai')]):
        nodes = nodes_of(file)
        found[kit / 'pictures' / f'{file.stem}.svg'] = svg(nodes, places(nodes))
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Write what is out of date, or name it; return 1 if it was only named."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing; name what is out of date')
    check = parser.parse_args(words).check
    old = {
        file: picture
        for file, picture in pictures(HERE.parent).items()
        if not file.exists() or file.read_text(encoding='utf-8') != picture
    }
    for file, picture in old.items():
        print(f'{"out of date" if check else "written"}: {file.name}')
        if not check:
            file.write_bytes(picture.encode())
    return 1 if check and old else 0


if __name__ == '__main__':
    sys.exit(main())
