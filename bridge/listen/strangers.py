"""Who may not command a listener, and when each was told so: once a second each, some at a time."""

from __future__ import annotations

from bridge.listen import rules

STRANGERS_MOST = 128
STRANGERS_EVERY = 1000 * rules.MS


class Strangers:
    """Addresses of PCs, and when each was told that it may not command."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def may_be_told(self, host: str, now: int) -> bool:
        """Tell whether one is to be told now, ns; makes room for it."""
        told = self._told.get(host)
        if told is not None:
            return now - told >= STRANGERS_EVERY
        if len(self._told) >= STRANGERS_MOST:
            first = next(iter(self._told))
            if now - self._told[first] < STRANGERS_EVERY:
                return False
            del self._told[first]
        return True

    def told(self, host: str, now: int) -> None:
        """Take it that one was told."""
        self._told.pop(host, None)
        self._told[host] = now
