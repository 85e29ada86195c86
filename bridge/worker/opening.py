"""The sockets of a worker's services are opened, with what the worker before us has left beside the segment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bridge import datagrams
from bridge.config import ConfigError, ServiceConfig
from bridge.segment import ports
from bridge.segment.kept import Keeper
from bridge.worker.housekeeping import Housekeeping

if TYPE_CHECKING:
    from bridge.services.carrier import UdpCarrier


def open_services(
    services: Mapping[str, ServiceConfig],
    timeout: float,
    *,
    path: Path,
    keeper: Keeper,
    house: Housekeeping,
    listening: dict[str, tuple[str, int]],
    shared_addresses: bool,
) -> UdpCarrier:
    """Return what carries commands to the services, started.

    Parameters
    ----------
    services : mapping of str to ServiceConfig
        By name, in order.
    timeout : float
        Of services that have none of their own, s.
    path : pathlib.Path
        The segment's file.
    keeper : Keeper
        Keeps for the next worker from which ports we send.
    house : Housekeeping
        Learns from what services answer and say.
    listening : dict of str to tuple
        Host and port of the worker's own listeners: no service may be there.
    shared_addresses : bool
        Let several services be at one address.

    Raises
    ------
    ConfigError
        A service is at an address where none can be.
    """
    from bridge.services.carrier import UdpCarrier  # imports iblutil, which takes a second

    carrier = UdpCarrier(
        {name: service.uri for name, service in services.items()},
        {name: service.timing(timeout) for name, service in services.items()},
        {name: service.after for name, service in services.items() if service.after},
        {name: port for name, port in ports.load(path).items() if name in services},
        tells_first=True,
    )
    carrier.ended_by = 'the worker was stopped'
    carrier.on_event = house.heard
    carrier.on_outcome = house.learn
    carrier.send_all = datagrams.send
    carrier.on_opened = lambda: keeper.keep(ports.KIND, carrier.ports)
    carrier.opener.exclusive = not shared_addresses
    carrier.opener.listening = listening
    carrier.start()
    if carrier.opener.refused:
        carrier.close()
        raise ConfigError(f'services: {carrier.opener.refused}.')
    ports.save(path, carrier.ports)
    return carrier
