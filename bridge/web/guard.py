"""Who may read the page, and who may press its button: decisions about headers only.

- **Host.** A page of somebody else can make its name point to this PC (DNS rebinding), and then reads what we answer.
  But the browser says the name that it was given: only an address as a number, this PC's names and configured ones are
  answered.
- **Token.** For others than this PC, in a cookie, which ``/?token=`` sets, or as ``Authorization: Bearer``.
- **Button.** A page of somebody else can send us a request, though not read the answer. So a press has to say our own
  origin, and a second token, which only who could read our page knows.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection, Mapping

PRESS = 'X-Iblbridge-Press'  # the header with the button's token
HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}
"""dict: what each answer says to a browser: nothing inline, nothing from elsewhere, in nobody's frame, not kept."""
_HOST = re.compile(r'(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]/@]+))(?::[0-9]{1,5})?')


def is_our_host(header: str, names: Collection[str]) -> bool:
    """Tell whether a Host header names this PC.

    Parameters
    ----------
    header : str
        As it came.
    names : collection of str
        Names of this PC, in lower case.

    Examples
    --------
    >>> [is_our_host(host, ('rig0',)) for host in ('127.0.0.1:8650', '[::1]:8650', 'localhost', 'RIG0:8650')]
    [True, True, True, True]
    >>> [is_our_host(host, ('rig0',)) for host in ('evil.example', '127.0.0.1.evil.example', 'rig0@evil', '')]
    [False, False, False, False]
    """
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    host = match[1] or match[2]
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return match[2] is not None and host.lower() in ('localhost', *names)


def is_let_in(token: str, cookie: str, authorization: str) -> bool:
    """Tell whether who reads knows the token; everybody does if there is none."""
    given = authorization.removeprefix('Bearer ') if authorization.startswith('Bearer ') else cookie
    return not token or same(given, token)


def press_refused(headers: Mapping[str, str], press: str) -> str:
    """Return why somebody may not press the button, "" if he may.

    Parameters
    ----------
    headers : mapping of str to str
        Of the request.
    press : str
        The button's token.
    """
    host, origin = headers.get('Host', ''), headers.get('Origin', '')
    if origin.lower() not in (f'http://{host}'.lower(), f'https://{host}'.lower()):
        return 'the button was pressed from another page'
    if headers.get('Sec-Fetch-Site', 'same-origin') != 'same-origin':
        return 'the button was pressed from another site'
    if not same(headers.get(PRESS, ''), press):
        return 'the page is of an earlier start: load it anew'
    return ''


def same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(given.encode('utf-8', 'replace'), expected.encode())
