"""What a change of the rig's configuration comes to, while the worker runs: decisions only.

A *line* is what the worker has to one service: its socket, what is queued and not confirmed, and what is known of how
the service is. It belongs to an address, for that is where the service is, whatever it is called:

- who keeps its address keeps its line, under another name or with other settings, too;
- who is at another address than before is another service: its line is a new one;
- a line that nobody of the new list has is retired: what was begun on it ends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from bridge.config import ListenerConfig, RigConfig

NOTHING = 'nothing has changed'
RIG = ('heartbeat', 'ask', 'on_client_lost', 'any_reference')  # what may be changed of the rig itself


def kept_lines(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return which of the old lines each new service goes on with.

    Parameters
    ----------
    old, new : mapping of str to str
        Where each service was, and where it is: two that are equal are one place.

    Returns
    -------
    dict of str to str
        The name in the old list, by that in the new one; who needs a new line is not in it.

    Examples
    --------
    >>> kept_lines({'left': 'A', 'right': 'B'}, {'right': 'A', 'ephys': 'B', 'lamp': 'C'})
    {'right': 'left', 'ephys': 'right'}
    """
    same = {name for name, place in new.items() if old.get(name) == place}
    free: dict[str, list[str]] = {}
    for name, place in old.items():
        if name not in same:
            free.setdefault(place, []).append(name)
    kept: dict[str, str] = {}
    for name, place in new.items():
        if name in same:
            kept[name] = name
        elif free.get(place):
            kept[name] = free[place].pop(0)
    return kept


@dataclass(frozen=True)
class Changes:
    """What is different in a new configuration.

    Attributes
    ----------
    added, removed, changed : tuple of str
        Names of services; of `changed` the address or a setting.
    reordered : bool
        Those that stay come in another order.
    rig : tuple of str
        Settings of the rig itself.
    listeners : tuple of str
        Names of listeners of which a setting is another.
    moved : tuple of str
        Names of listeners that are added, removed, or at another address: that takes a restart.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    reordered: bool = False
    rig: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    @property
    def of_services(self) -> bool:
        """bool: programs are to be told."""
        return bool(self.added or self.removed or self.changed or self.reordered)

    @property
    def settings(self) -> tuple[str, ...]:
        """Tuple of str: what is different beside the services, such as ``heartbeat of the rig``."""
        of_listeners = (f'listener {name}' for name in (*self.listeners, *self.moved))
        return (*(f'{name} of the rig' for name in self.rig), *of_listeners)

    @property
    def names(self) -> dict[str, list[str]]:
        """Dict of str to list of str: the services ``added``, ``removed`` and ``changed``."""
        return {'added': list(self.added), 'removed': list(self.removed), 'changed': list(self.changed)}

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) for one in fields(self))

    def __str__(self) -> str:
        said = {'added': self.added, 'removed': self.removed, 'changed': (*self.changed, *self.settings)}
        parts = [f'{what} {", ".join(names)}' for what, names in said.items() if names]
        return '; '.join(parts + ['another order'] * self.reordered) or NOTHING


def changes(old: RigConfig, new: RigConfig) -> Changes:
    """Return what is different in a new configuration."""
    before, after = old.services, new.services
    listeners = dict.fromkeys((*old.listen, *new.listen))
    moved = tuple(name for name in listeners if _place(old.listen.get(name)) != _place(new.listen.get(name)))
    stay = [name for name in after if name in before]
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in stay if after[name] != before[name]),
        reordered=stay != [name for name in before if name in after],
        rig=tuple(name for name in RIG if getattr(old, name) != getattr(new, name)),
        listeners=tuple(name for name in new.listen if name not in moved and new.listen[name] != old.listen[name]),
        moved=moved,
    )


def _place(listener: ListenerConfig | None) -> str:
    return listener.uri if listener else ''
