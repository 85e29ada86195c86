"""The numbers and words of the interface, by name. Written by csrc/generate; changes belong there.

They come from codes.def and iblbridge.h. Nothing is loaded here, so this can be imported where the library is not.
"""

from __future__ import annotations

CODES: dict[str, int] = {
    'IBLB_OK': 0,
    'IBLB_E_ARGUMENT': -8001,
    'IBLB_E_HANDLE': -8002,
    'IBLB_E_CLOSED': -8003,
    'IBLB_E_FORKED': -8004,
    'IBLB_E_NAME': -8005,
    'IBLB_E_HANDLES': -8006,
    'IBLB_E_NO_SEGMENT': -8010,
    'IBLB_E_SEGMENT': -8011,
    'IBLB_E_VERSION': -8012,
    'IBLB_E_STALE': -8013,
    'IBLB_E_PERMISSION': -8014,
    'IBLB_E_NO_SLOT': -8015,
    'IBLB_E_NAME_TAKEN': -8016,
    'IBLB_E_QUARANTINED': -8017,
    'IBLB_E_NO_WORKER': -8018,
    'IBLB_E_WORKER_BUSY': -8019,
    'IBLB_E_SYSTEM': -8020,
    'IBLB_E_MEMORY': -8021,
    'IBLB_E_SUPERSEDED': -8022,
    'IBLB_E_MESSAGE': -8030,
    'IBLB_E_SERVICE': -8031,
    'IBLB_E_UTF8': -8032,
    'IBLB_E_JSON': -8033,
    'IBLB_E_MSGPACK': -8034,
    'IBLB_E_ARGS': -8035,
    'IBLB_E_TOO_LARGE': -8036,
    'IBLB_E_FULL': -8037,
    'IBLB_E_TOO_MANY': -8038,
    'IBLB_E_TIMEOUT': -8050,
    'IBLB_E_REQUEST': -8051,
    'IBLB_E_BUFFER': -8052,
    'IBLB_E_NOT_SENT': -8053,
    'IBLB_E_PENDING': -8054,
    'IBLB_E_CANCELLED': -8055,
    'IBLB_E_LATE': -8056,
    'IBLB_E_COMMAND': -8057,
    'IBLB_E_PARTIAL': -8070,
    'IBLB_E_ALL_FAILED': -8071,
    'IBLB_E_EXPIRED': -8072,
    'IBLB_E_ABORTED': -8073,
    'IBLB_E_OUTCOME_UNKNOWN': -8074,
    'IBLB_E_INTERNAL': -8075,
    'IBLB_W_NO_WORKER': 5001,
    'IBLB_W_OPTIONAL': 5002,
    'IBLB_W_ACCEPTED': 5003,
    'IBLB_W_SHORTENED': 5004,
    'IBLB_W_STATUS': 5005,
    'IBLB_W_NO_SERVICES': 5006,
}
"""Every status by its name."""

CODE_NAMES: dict[int, str] = {number: name for name, number in CODES.items()}

MESSAGES: dict[str, int] = {
    'EXPINIT': 1,
    'EXPSTART': 2,
    'EXPEND': 4,
    'EXPCLEANUP': 8,
    'EXPINTERRUPT': 16,
    'EXPSTATUS': 32,
    'EXPINFO': 64,
    'ALYX': 128,
    'PING': 4096,
    'SERVICES': 8192,
}
"""What a command says: the numbers of iblutil's ExpMessage, and the worker's own."""

MESSAGE_NAMES: dict[int, str] = {number: name for name, number in MESSAGES.items()}

LOCAL: tuple[str, ...] = ('PING', 'SERVICES')
"""Messages that the worker answers itself."""

EVENTS: dict[str, int] = {
    'EXPINIT': 1,
    'EXPSTART': 2,
    'EXPEND': 4,
    'EXPCLEANUP': 8,
    'EXPINTERRUPT': 16,
    'EXPSTATUS': 32,
    'EXPINFO': 64,
    'ALYX': 128,
    'SERVICE_UP': 256,
    'SERVICE_DOWN': 512,
    'CLIENT_LOST': 1024,
    'WORKER_RESTARTED': 2048,
    'EXPERIMENT_LOST': 16384,
    'SERVICES_CHANGED': 131072,
}
"""What can be subscribed to: messages that services send by themselves, and events of the worker."""

STATUSES: dict[str, int] = {
    'CONNECTED': 0,
    'INITIALIZED': 10,
    'RUNNING': 20,
    'STOPPED': 30,
}
"""What a service says it does; an entry of a response that has none says -1."""

STATUS_NAMES: dict[int, str] = {number: name for name, number in STATUSES.items()}

REASONS: tuple[str, ...] = (
    'arguments',
    'too_large',
    'unsupported',
    'address',
    'network',
    'expired',
    'unread',
    'after',
    'refused',
    'no_echo',
    'other_address',
    'no_reply',
    'doubtful',
    'callback_failed',
    'status',
    'aborted',
    'withdrawn',
    'closed',
    'unknown',
    'internal',
)
"""Why a service did not do what was asked, as its entry of a response says it to programs:

    arguments        the arguments do not fit the message
    too_large        more than a datagram can hold
    unsupported      an address of a kind that cannot be served
    address          its host name cannot be looked up, or there is no socket to it
    network          this computer's network refused to send
    expired          too old when its turn came
    unread           not sent, because an earlier command may still lie unread at the service
    after            not sent, because a service that it comes after did not do it
    refused          its computer says that nobody listens there
    no_echo          nothing came back
    other_address    it answered from an address other than the configured one
    no_reply         it has the command but did not reply in time
    doubtful         what it said may be its answer to an earlier command
    callback_failed  it says that it failed, such as by an exception of its callback
    status           it answered, but the status that it reports contradicts the command
    aborted          an EXPINTERRUPT overtook the command
    withdrawn        taken back before it was sent
    closed           the worker stopped, or the line was closed meanwhile
    unknown          not told
    internal         the bridge failed
"""

EXITS: dict[str, int] = {
    'FINE': 0,
    'SERVICE_FAILED': 1,
    'MISUSE': 2,
    'NO_RIG': 3,
    'NOT_KNOWN': 4,
    'INTERRUPTED': 130,
}
"""Exit statuses of the command-line tools by name."""

EXIT_MEANINGS: dict[int, str] = {
    0: 'it worked, perhaps with a warning',
    1: 'a service failed, or the command expired, was withdrawn or aborted',
    2: 'misuse: options, configuration, arguments',
    3: 'no segment, no worker, no slot',
    4: 'it is not known what happened: ask EXPSTATUS before you repeat',
    130: 'Ctrl-C',
}

EXIT_STATUSES: dict[int, int] = {
    0: 0,
    -8001: 2,
    -8002: 2,
    -8003: 2,
    -8004: 2,
    -8005: 2,
    -8006: 2,
    -8010: 3,
    -8011: 3,
    -8012: 3,
    -8013: 3,
    -8014: 3,
    -8015: 3,
    -8016: 3,
    -8017: 3,
    -8018: 3,
    -8019: 3,
    -8020: 3,
    -8021: 3,
    -8022: 3,
    -8030: 2,
    -8031: 2,
    -8032: 2,
    -8033: 2,
    -8034: 2,
    -8035: 2,
    -8036: 2,
    -8037: 2,
    -8038: 2,
    -8050: 4,
    -8051: 2,
    -8052: 4,
    -8053: 1,
    -8054: 4,
    -8055: 4,
    -8056: 1,
    -8057: 2,
    -8070: 1,
    -8071: 1,
    -8072: 1,
    -8073: 1,
    -8074: 4,
    -8075: 1,
    5001: 0,
    5002: 0,
    5003: 0,
    5004: 0,
    5005: 0,
    5006: 0,
}
"""Exit status of the command-line tools by status of the interface."""
