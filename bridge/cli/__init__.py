"""The command ``iblbridge``: one module per subcommand.

Each module has ``add_parser(subparsers)``, which describes it and sets ``run`` as its default, and ``run(args)``, which
returns the exit status. What is slow to import is imported within ``run``, so that ``iblbridge send`` in a script costs
no more than it must. Here nothing is imported before it is needed: a Ctrl-C then would be told as a traceback.

Exit statuses are those of the C tool ``iblb``:

====  ==================================================================
0     it worked, perhaps with a warning
1     a service failed, or the command expired, was withdrawn or aborted
2     misuse: options, configuration, arguments
3     no segment, no worker, no slot
4     it is not known what happened: ask EXPSTATUS before you repeat
130   Ctrl-C (143 SIGTERM, 129 SIGHUP); but serve and simulate, which end by it in an orderly way, end with 0
====  ==================================================================
"""

from __future__ import annotations

TYPE_CHECKING = False  # what checkers of types take for typing's, which takes 10 ms to import
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``iblbridge``.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of this process by default.

    Returns
    -------
    int
        The exit status.
    """
    try:
        from bridge.cli.command import run

        return run(argv)
    except KeyboardInterrupt as e:  # also while Python reads our modules, which may take a second
        return 128 + getattr(e, 'number', 2)  # `Ended` has the signal's; Ctrl-C is 2 everywhere


def exit_status(code: int) -> int:
    """Return the exit status that belongs to a status code of the C interface.

    Parameters
    ----------
    code : int
        0, a negative error or a positive warning, as in iblbridge.h.

    Returns
    -------
    int
        See the table above; a code that there is not is misuse if it is negative.
    """
    from bridge.numbers import EXIT_STATUSES, EXITS

    return EXIT_STATUSES.get(code, EXITS['MISUSE'] if code < 0 else EXITS['FINE'])
