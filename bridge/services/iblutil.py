"""What iblutil is asked for: the text of a message, and a communicator. The only module that imports iblutil.

Of a communicator (``iblutil.io.net``, 1.20.0) we keep what code on top of it uses, and lend it a socket of ours:

- Its own socket is connected: it would not hear a service that answers from another address, would stay at the address
  that the computer had when it was opened, and could not have the port that the worker before us had. Ours is bound to
  a port and sends to the service's address.
- The factory of communicators gives the logger of the service's name a DEBUG handler on the console, which would print
  every message, tokens too.
- It looks host names up in the loop, which stands still until the name server answers.
- TCP is not framed: an echo and a reply run together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from iblutil.io import net

from bridge import plain
from bridge.addresses import (
    BROADCAST,
    commands_itself,
    is_broadcast,
    is_heard_at,
    one_address,
    same_service,
    unusable,
)
from bridge.outcome import Reason
from bridge.services import rules
from bridge.services.errand import Errand
from bridge.services.link import Link, Unreachable

__all__ = ['METHODS', 'Opener', 'arguments', 'encode', 'events', 'net', 'replaced', 'silent_client', 'validate']

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

_BY_NAME = {message.name: message for message in net.base.ExpMessage}
_STOCK = {method: getattr(net.app.Services, method) for method in METHODS.values()}
_MOST = 65536  # bytes that are read at once
_CLOSED = (errno.EBADF, errno.ENOTSOCK)  # of a socket that somebody has closed
AT_ONCE = 8  # datagrams of one service that are taken in one turn of the loop
LATE_MOST = 10_000  # the same, of what lies there since the computer stood still: more than a socket holds
_IP_RECVERR = 11  # linux/in.h: report refusals on a socket that is not connected, too


# --- messages --------------------------------------------------------------------------------------------------------


def validate(message: Any) -> Any:
    """Return the one message of a name, number or message; raises ValueError or TypeError if there is none."""
    # iblutil's check is slow the first time round: names as they should be written need none.
    known = _BY_NAME.get(message) if isinstance(message, str) else None
    return net.base.ExpMessage.validate(message, allow_bitwise=False) if known is None else known


def events(event: Any) -> dict[int, tuple[Any, ...]]:
    """Return the numbers of the messages that a callback is for, and what else it is called with at each of them.

    Parameters
    ----------
    event : str, int or iblutil.io.net.base.ExpMessage
        A message, several as flags, or 0 for an error.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    messages = net.base.ExpMessage
    several = messages.validate(event)
    if several == 0:
        return {0: ()}
    is_told = several not in messages  # as iblutil has it: which of several came is told until Python 3.11
    return {int(one): (messages(one),) if is_told else () for one in several}


def encode(message: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[bytes, bool]:
    """Let iblutil build and check a message.

    Parameters
    ----------
    message : str
        Its name.
    args, kwargs
        As of the `Services` method for it; ``concurrent`` is the carrier's.

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
    service = net.base.Service
    if kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != 'concurrent'}
    if message == 'ALYX':
        return _encode_alyx(*args, **kwargs)
    if message in ('EXPEND', 'EXPINTERRUPT'):
        kwargs = {**kwargs, 'immediately': message == 'EXPINTERRUPT'}
    try:
        parts = getattr(service, METHODS[message])(None, *args, **kwargs)
    except KeyError as exc:
        raise ValueError(f'{message}: {exc} is unknown') from exc
    except TypeError as exc:
        raise TypeError(f'the arguments do not fit {message}: {exc}') from exc
    return plain.dumps(parts).encode(), True


def _encode_alyx(alyx: Any = None, token: Any = None) -> tuple[bytes, bool]:
    """Build an ALYX message from an Alyx object, or from a base URL and a token."""
    if alyx is None or isinstance(alyx, str):
        parts = (_BY_NAME['ALYX'], alyx, token or {})
    elif token is not None:
        raise TypeError('the arguments do not fit ALYX: an Alyx object has its own token')
    else:
        parts = net.base.Service.alyx(None, alyx)
    return plain.dumps(parts).encode(), not all(parts)


def arguments(message: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments of a message as they go over the wire; raises as `encode`."""
    _, *given = json.loads(encode(message, args, kwargs)[0])
    if message == 'ALYX' and not all(given):  # without a token it asks for one
        return [url for url in given[:1] if url]
    return list(given)


def replaced(services: Any, message: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return a call of the `Services` method for this message if it is not iblutil's, else None."""
    name = METHODS[message]
    method = getattr(services, name, None)
    if method is None or getattr(method, '__func__', None) is _STOCK[name]:
        return None
    if message in ('EXPEND', 'EXPINTERRUPT'):
        kwargs = {**kwargs, 'immediately': message == 'EXPINTERRUPT'}
    elif message == 'ALYX' and not args and 'alyx' not in kwargs:
        args = (None,)
    return lambda: method(*args, **kwargs)


# --- communicators ---------------------------------------------------------------------------------------------------


class Socket(asyncio.DatagramProtocol):
    """Our socket of one communicator.

    Parameters
    ----------
    link : Link
        Whose it is.
    com : iblutil.io.net.app.EchoProtocol
        Made by the stock factory; its confirmed sending becomes the link's.
    """

    def __init__(self, link: Link, com: Any) -> None:
        self.link, self.com = link, com
        self._aim()
        self.port = 0
        self._socket: socket.socket | None = None

    async def open(self, port: int) -> None:
        """Bind to a port, or, if somebody else has it, to any, and take the communicator over."""
        self._socket = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if sys.platform == 'linux':
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            try:
                sock.bind(('', port))
            except OSError as exc:
                what = f'{self.link.name}: the port {port} by which it knows us is not available'
                self.link.say(logging.WARNING, f'{what}: {exc}')
                sock.bind(('', 0))
            self.com._transport.close()  # its own
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise
        self.port = int(sock.getsockname()[1])
        self.com._transport, self.com._socket = transport, transport.get_extra_info('socket')
        self.com.confirmed_send = self._confirmed_send
        self.link.send, self.link.place, self.link.close_socket = self.send, self.place, self.com.close
        self.link.take_arrived = self.take_arrived

    @property
    def is_open(self) -> bool:
        """bool: nobody has closed it."""
        return self.com._transport is not None and not self.com._transport.is_closing()

    def move(self, uri: str) -> None:
        """Send to another address from now on."""
        self.com.server_uri = uri
        self._aim()

    def _aim(self) -> None:
        self.peer = (self.com.hostname, self.com.port)
        try:
            self._address = int(ipaddress.IPv4Address(self.peer[0]))
        except ValueError:
            self._address = 0  # `send` says what is wrong

    def place(self) -> tuple[int, int, int] | None:
        """Return where a datagram may be put; None if others wait for room before it, or only `send` will do."""
        assert self._socket is not None
        transport = self.com._transport
        if transport is None or transport.get_write_buffer_size() or not self._address:
            return None
        return self._socket.fileno(), self._address, self.peer[1]

    def send(self, payload: bytes, failed: int = 0) -> OSError | None:
        """Hand a datagram to the socket; return why it did not leave, or None.

        `failed` is the system's number of why it has not left already.
        """
        assert self._socket is not None
        if failed:
            self._forget_errors()
        if self.com._transport.get_write_buffer_size():
            self.com._transport.sendto(payload, self.peer)  # behind what waits for room
            return None
        error: OSError | None = None
        for _ in range(2):
            try:
                self._socket.sendto(payload, self.peer)
                return None
            except (BlockingIOError, InterruptedError):
                self.com._transport.sendto(payload, self.peer)  # when there is room
                return None
            except OSError as exc:  # perhaps of an *earlier* datagram: told here, once, instead of sending
                self._take_note(exc)
                error = exc
        return error

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take a datagram from the transport."""
        self._take(data, addr)
        # An answer follows its echo closely: what is there by now is taken without another turn of the loop.
        for _ in range(AT_ONCE - 1):
            if not self.link.line.flying or not self._take_next():
                break
        self.link.run()

    def take_arrived(self) -> None:
        """Take what lies in the socket, although the loop, on a busy computer, has not come round to it.

        A command that leaves before what the service has said is confirmed crosses that, and a plain service closes.
        """
        for _ in range(LATE_MOST if self.link.line.is_late else AT_ONCE):
            if not self.is_open or not self._take_next():
                break

    def _take_next(self) -> bool:
        assert self._socket is not None
        try:
            data, addr = self._socket.recvfrom(_MOST)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            self.error_received(exc)
            return False
        self._take(data, addr)
        return True

    def _take(self, data: bytes, addr: Any) -> None:
        size, line = self.com.max_message_size, self.link.line
        line.cut = size if size <= rules.LONGEST else 0
        if addr == self.peer:
            self.link.take(data)
        else:
            line.stranger(data, f'{addr[0]}:{addr[1]}')

    def error_received(self, exc: Exception) -> None:
        """Take an error of the network, or of sending."""
        self._take_note(exc)
        if not self.com.on_error_received.done():
            self.com.on_error_received.set_result(exc)
        self.link.refused(exc if isinstance(exc, OSError) else OSError(str(exc)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that somebody has closed it."""
        self.link.lost()

    def _take_note(self, error: Exception) -> None:
        """Leave nothing behind of an error that was told; a socket that is none any more is given up."""
        self._forget_errors()
        if isinstance(error, OSError) and error.errno in _CLOSED:
            self.com._transport.abort()

    def _forget_errors(self) -> None:
        """Take the queued reports of an error that was told: as long as there are some, the socket wakes us up."""
        assert self._socket is not None
        if sys.platform == 'linux':
            with contextlib.suppress(OSError):
                while True:
                    self._socket.recvmsg(1, 512, socket.MSG_ERRQUEUE)

    async def _confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
        """Stock signature, for whoever uses the stock methods: queued, confirmed by the echo, never closing."""
        if addr and tuple(addr) != self.peer:
            raise ValueError('Unexpected remote address')
        text = bytes(self.com.encode(data))
        event, _ = rules.read(text) or (rules.ERROR, [])
        patience = timeout or self.link.line.timing.echo_timeout
        confirmed: asyncio.Future[Errand] = asyncio.get_running_loop().create_future()
        errand = Errand(self.link.name, event, text, timeout=patience, wants_reply=False, command=confirmed)
        self.link.enqueue(errand)
        await confirmed
        if errand.reason:
            raise errand.outcome().exception()


class Opener:
    """Sees to it that a link has a socket, and sends to where the service's name points now.

    Parameters
    ----------
    ring : callable
        Has the network thread call something.
    patience : float
        How long a host name may take, s.
    ports : mapping of str to int
        The local port that each service knows us by; read and written.
    opened : callable
        Called with the name of a service and its new communicator.

    Attributes
    ----------
    exclusive : bool
        Of two services whose names turn out to be one address the later one is not opened.
    listening : dict of str to tuple of str and int
        Where this worker listens itself, by the listener's name: no service can be there.
    refused : str
        What was said of the first that was not, or whose name stands for an address that no service can have; empty if
        there was none.
    """

    def __init__(
        self, ring: Callable[..., object], patience: float, ports: dict[str, int], opened: Callable[[str, Any], None]
    ) -> None:
        self._ring, self._patience, self._ports, self._opened = ring, patience, ports, opened
        self._sockets: dict[str, Socket] = {}
        self._lookups: dict[str, asyncio.Future[str]] = {}
        self._places: dict[str, tuple[str, str]] = {}  # where each service is, by its name, and its address
        self.exclusive = False
        self.listening: dict[str, tuple[str, int]] = {}
        self.refused = ''

    async def __call__(self, link: Link) -> None:
        """Open a link; runs in the network thread.

        Raises
        ------
        Unreachable
            The scheme is not supported, the host name unknown, or the port wrong.
        OSError
            The socket could not be made.
        """
        await self._open(link)
        if isinstance(link.opener, Opener) and link.opener is not self:  # other services were taken over meanwhile
            link.opener.join(self.part({link.name: link.name}))

    async def _open(self, link: Link) -> None:
        uri = str(link.line.uri)
        scheme, separator, rest = uri.rpartition('://')
        if separator and scheme.lower() != 'udp':
            sentence = (
                f'{scheme}:// is not supported, as iblutil frames no messages over TCP: use udp:// instead of {uri}'
            )
            raise Unreachable(Reason.UNSUPPORTED, sentence)
        here = self._sockets.get(link.name)  # that it is open is asked behind the look-up: it takes its time
        uri = f'udp://{rest}' if separator else uri  # iblutil takes any other spelling for TCP
        address = uri
        if not net.base.is_valid_ip(rest.partition(':')[0]):
            try:
                address = await self._resolve(uri)
            except Exception as exc:
                if here is None or not here.is_open:
                    raise Unreachable(Reason.ADDRESS, str(exc)) from exc
                what = f'{link.name}: the host name cannot be looked up at the moment; its last address is used'
                link.say(logging.WARNING, f'{what}: {exc}')
                return
        self._check(link.name, uri, str(address))
        if shared := self._claim(link.name, str(address)):
            link.say(logging.WARNING, shared)
        if here is not None and here.is_open:
            if address not in (uri, here.com.server_uri):
                link.say(logging.INFO, f'{link.name} has moved to {address}')
                here.move(address)
            return
        before = self._sockets.get(link.name)
        com = await silent_client(address, link.name)
        if not isinstance(com, net.app.EchoProtocol):
            self._opened(link.name, com)
            return
        limit = link.line.timing.max_message_size
        com.max_message_size = before.com.max_message_size if before else limit or com.max_message_size
        made = Socket(link, com)
        await made.open(self._ports.get(link.name, 0))
        self._sockets[link.name], self._ports[link.name] = made, made.port
        self._opened(link.name, com)

    async def place(self, name: str, uri: str) -> str:
        """Return where a service is, so that all that are at one place have the same; as it is written if nobody knows.

        Raises
        ------
        Unreachable
            Nobody in particular is there.
        """
        address = uri
        if not net.base.is_valid_ip(uri.rpartition('://')[2].partition(':')[0]):
            with contextlib.suppress(Exception):
                address = await self._resolve(uri)
        self._check(name, uri, address)
        return same_service(address)

    def known_place(self, name: str, uri: str) -> str:
        """Return where a service of ours is, as far as that was found out."""
        return self._places[name][0] if name in self._places else same_service(uri)

    def part(self, names: Mapping[str, str], opened: Callable[[str, Any], None] | None = None) -> Opener:
        """Return an opener for some of our services, that goes on with their sockets.

        Parameters
        ----------
        names : mapping of str to str
            What each is called here, by what it is called there.
        opened : callable, optional
            As of the constructor; ours by default.
        """
        ports = {new: self._ports[old] for new, old in names.items() if old in self._ports}
        made = Opener(self._ring, self._patience, ports, opened or self._opened)
        made._sockets = {new: self._sockets[old] for new, old in names.items() if old in self._sockets}
        made._places = {new: self._places[old] for new, old in names.items() if old in self._places}
        made._lookups, made.exclusive = self._lookups, self.exclusive
        return made

    def join(self, other: Opener) -> None:
        """Go on with the sockets of another opener, beside our own."""
        self._sockets |= other._sockets
        self._places |= other._places
        self._ports.update(other._ports)

    def leave(self) -> None:
        """Forget all services, as others open them now; of one that is just being opened they are told."""
        for known in (self._sockets, self._ports, self._places):
            known.clear()

    @property
    def ports(self) -> dict[str, int]:
        """Dict of str to int: the local port that each service knows us by."""
        return self._ports

    def limit(self, name: str, size: int) -> None:
        """Take it that the computer of a service cuts echoes to so many bytes; 0: it does not."""
        if name in self._sockets:
            com = self._sockets[name].com
            com.max_message_size = size or type(com).max_message_size

    def _check(self, name: str, uri: str, address: str) -> None:
        """Raise Unreachable if nobody in particular is at an address."""
        host = address.rpartition('://')[2].partition(':')[0]
        if wrong := unusable(host) or (BROADCAST if is_broadcast(host) else ''):
            found = '' if host in uri else f', which stands for {host},'
            self._refuse(name, f"{name}: {uri}{found} {wrong}; write the address of the service's PC")
        for listener, (there, port) in self.listening.items():
            if is_heard_at(address, there, port):
                self._refuse(name, f'{commands_itself(name, listener, uri)}; change one of the ports')

    def _claim(self, name: str, address: str) -> str:
        """Note where a service is, and return what is wrong about it; Unreachable if another one is there."""
        place = same_service(address)
        other = next((one for one, (there, _) in self._places.items() if there == place and one != name), None)
        if other is None:
            self._places[name] = place, address
            return ''
        sentence = one_address(other, name, address, self._places[other][1])
        if self.exclusive:
            self._refuse(name, sentence)
        return sentence

    def _refuse(self, name: str, sentence: str) -> NoReturn:
        self._places.pop(name, None)  # where it was it is no more
        self.refused = self.refused or sentence
        raise Unreachable(Reason.ADDRESS, f'not sent: {sentence}')

    async def _resolve(self, uri: str) -> str:
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
                    self._ring(finish, net.base.validate_uri(uri), None)
                except Exception as exc:
                    self._ring(finish, '', exc)

            future = lookup
            # Not the loop's executor: its threads cannot be left behind when the program ends.
            try:
                threading.Thread(target=look_up, name='lookup', daemon=True).start()
            except RuntimeError as exc:  # there can be no more threads: the next look-up tries it again
                finish('', exc)
        done, _ = await asyncio.wait({lookup}, timeout=self._patience)
        if not done:
            raise ValueError(f'{uri}: the host name could not be resolved within {self._patience:g} s')
        return lookup.result()


async def silent_client(address: str, name: str) -> Any:
    """Have iblutil make a communicator that logs nothing, and leave the logger of the service's name as it was.

    Parameters
    ----------
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
