"""The network: what the worker, or a Python program, says to remote services.

==========  ========================================================================================================
`rules`     the rules of the exchange: functions of values, tables, how patient to be
`errand`    a command at one service, and the stamps that tell echoes apart
`line`      one service as a machine without socket, loop or clock, that follows the rules; it says what it is made of
`link`      the socket and the timer of a line
`kinds`     what makes a link, by the scheme of a service's address
`iblutil`   all that iblutil is asked for; what opens a socket
`repeats`   what a service says again and again, for the log
`stages`    which services of a command wait for which others: functions of values
`together`  how the datagrams of one command leave, one behind the other
`plan`      one command: divided into errands, permitted once, resolved once
`carrier`   commands over the network, from any thread
`former`    services that were removed, while something is under way there
`changing`  other services for a carrier that runs
`simulate`  a simulated service
==========  ========================================================================================================

It knows nothing of shared memory, as `bridge.segment` knows nothing of it; `bridge.worker` joins the two. Importing
this package loads no library.
"""
