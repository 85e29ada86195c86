"""What iblutil is asked for: the text of a message, and an open communicator.

iblutil itself (``iblutil.io.net``, 1.20.0) is passed in; only `auxiliaries` imports it. Kept from us here:

- The factory of communicators gives the logger of the service's name a DEBUG handler on the console, which would print
  every message, tokens too.
- It looks host names up in the loop, which stands still until the name server answers.
- TCP is not framed: an echo and a reply run together.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from bridge.link import Link

METHODS = {
    'EXPINIT': 'init',
    'EXPSTART': 'start',
    'EXPEND': 'stop',
    'EXPINTERRUPT': 'stop',
    'EXPCLEANUP': 'cleanup',
    'EXPSTATUS': 'status',
    'EXPINFO': 'info',
    'ALYX': 'alyx',
}
"""dict[str, str]: the method of iblutil's ``Service`` and ``Services`` for each message."""


class Messages:
    """Iblutil's messages: their names, their text, and the methods that would send them.

    Parameters
    ----------
    net : module
        ``iblutil.io.net``.
    """

    def __init__(self, net: Any) -> None:
        self._net = net
        self._by_name = {message.name: message for message in net.base.ExpMessage}
        self._stock = {method: getattr(net.app.Services, method) for method in METHODS.values()}

    def validate(self, message: Any) -> Any:
        """Return the one message of a name, number or message; raises ValueError or TypeError if there is none."""
        # iblutil's check is slow the first time round: names as they should be written need none.
        known = self._by_name.get(message) if isinstance(message, str) else None
        return self._net.base.ExpMessage.validate(message, allow_bitwise=False) if known is None else known

    def encode(self, message: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[bytes, bool]:
        """Let iblutil build and check a message.

        Parameters
        ----------
        message : iblutil.io.net.base.ExpMessage
            One message.
        args, kwargs
            As of the `Services` method for it; `concurrent` is accepted and has no meaning here.

        Returns
        -------
        bytes
            The JSON list to send.
        bool
            Whether a reply is to be expected; an ALYX message that carries a token has none.

        Raises
        ------
        TypeError, ValueError, KeyError
            The arguments do not fit the message.
        """
        service = self._net.base.Service
        kwargs = {name: value for name, value in kwargs.items() if name != 'concurrent'}
        if message.name == 'ALYX':
            if not args or isinstance(args[0], str):
                url, token = (*args, None, None)[:2]
                parts = (message, url, token or {})
            else:
                parts = service.alyx(None, *args, **kwargs)
            return json.dumps(parts).encode(), not all(parts)
        if message.name in ('EXPEND', 'EXPINTERRUPT'):
            kwargs['immediately'] = message.name == 'EXPINTERRUPT'
        try:
            parts = getattr(service, METHODS[message.name])(None, *args, **kwargs)
        except KeyError as exc:
            raise ValueError(f'{message.name}: {exc} is not known') from exc
        except TypeError as exc:
            raise TypeError(f'the arguments do not fit {message.name}: {exc}') from exc
        return json.dumps(parts).encode(), True

    def arguments(self, message: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """Return the arguments of a message as they go over the wire; raises as `encode`."""
        _, *arguments = json.loads(self.encode(message, args, kwargs)[0])
        # An ALYX message without a token asks for one.
        return [] if message.name == 'ALYX' and not arguments[0] else arguments

    def replaced(self, services: Any, message: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a call of the `Services` method for this message if it is not iblutil's, else None."""
        name = METHODS[message.name]
        method = getattr(services, name, None)
        if method is None or getattr(method, '__func__', None) is self._stock[name]:
            return None
        if message.name in ('EXPEND', 'EXPINTERRUPT'):
            kwargs = {**kwargs, 'immediately': message.name == 'EXPINTERRUPT'}
        elif message.name == 'ALYX' and not args:
            args = (None,)
        return lambda: method(*args, **kwargs)


class Opener:
    """Has iblutil make communicators.

    Parameters
    ----------
    net : module
        ``iblutil.io.net``.
    ring : callable
        Has the network thread call something.
    patience : float
        How long a host name may take, s.
    """

    def __init__(self, net: Any, ring: Callable[..., object], patience: float) -> None:
        self._net, self._ring, self._patience = net, ring, patience
        self._lookups: dict[str, asyncio.Future[str]] = {}

    async def open(self, link: Link) -> None:
        """Make a communicator for a link; runs in the network thread.

        Raises
        ------
        ValueError
            The scheme is not supported, the host name unknown, or the port wrong.
        OSError
            The socket could not be made.
        """
        uri = str(link.uri)
        scheme, separator, rest = uri.rpartition('://')
        if separator and scheme.lower() != 'udp':
            raise ValueError(
                f'{scheme}:// is not supported, as iblutil frames no messages over TCP: use udp:// instead of {uri}'
            )
        address = link.uri
        if not self._net.base.is_valid_ip(rest.partition(':')[0]):
            address = await self._resolve_host(uri)
        com = await silent_client(self._net, address, link.name)
        if isinstance(com, self._net.app.EchoProtocol):
            link.adopt(com)
        else:
            link.com = com

    async def _resolve_host(self, uri: str) -> str:
        """Look a host name up in a thread of its own; a silent name server must not stop the loop."""
        lookup = self._lookups.get(uri)
        if lookup is None:
            lookup = self._lookups[uri] = asyncio.get_running_loop().create_future()

            def finish(address: str, error: Exception | None) -> None:
                self._lookups.pop(uri, None)
                if error is not None:
                    future.set_exception(error)
                    future.exception()  # nobody may be waiting any more
                else:
                    future.set_result(address)

            def look_up() -> None:
                try:
                    self._ring(finish, self._net.base.validate_uri(uri), None)
                except Exception as exc:
                    self._ring(finish, '', exc)

            future = lookup
            # Not the loop's executor: its threads can not be left behind when the program ends.
            threading.Thread(target=look_up, name='lookup', daemon=True).start()
        done, _ = await asyncio.wait({lookup}, timeout=self._patience)
        if not done:
            raise ValueError(f'{uri}: the host name could not be resolved within {self._patience:g} s')
        return lookup.result()


async def silent_client(net: Any, address: str, name: str) -> Any:
    """Have iblutil make a communicator that logs nothing, and leave the logger of the service's name as it was.

    Parameters
    ----------
    net : module
        ``iblutil.io.net``.
    address, name : str
        Of the service; the address without a host name that has to be looked up.

    Raises
    ------
    OSError
        The socket could not be made.
    """
    console = logging.getLogger(name)
    handlers, level, disabled = console.handlers, console.level, console.disabled
    console.disabled = True
    try:
        com = await net.app.EchoProtocol.client(address, name)
    finally:
        console.handlers, console.disabled = handlers, disabled
        console.setLevel(level)
    if isinstance(com, net.app.EchoProtocol):
        com.logger = _silent()
    return com


def _silent() -> logging.Logger:
    """Return a logger that says nothing and that nobody else has."""
    logger = logging.Logger('iblutil', logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    logger.disabled = True
    return logger
