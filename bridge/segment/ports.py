"""The local port that each service knows a rig by, kept beside its segment over a restart of the worker.

The port is part of our identity: a service that says something to the worker before us, on the port of that one, waits
for a confirmation from there, and closes when none comes. The file is a hint, no more: one that is missing, old or
damaged costs nothing but new ports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bridge.segment import kept

KIND = 'ports'


def place(segment: Path) -> Path:
    """Return the file that belongs to a segment's."""
    return kept.place(segment, KIND)


def load(segment: Path) -> dict[str, int]:
    """Return the ports by service, {} if nothing is known."""
    found = kept.load(segment, KIND)
    return {name: port for name, port in found.items() if type(port) is int and 0 < port < 65536}


def save(segment: Path, ports: Mapping[str, int]) -> None:
    """Keep the ports; what the disk refuses is not kept."""
    kept.save(segment, KIND, ports)
