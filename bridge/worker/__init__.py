"""The worker: joins a segment's programs and the remote services.

==============  =====================================================================
`worker`        `Worker`: opens, takes what comes until it is stopped, ends in order
`opening`       the services' sockets are opened
`commands`      a command's way: to the services, and what each of them did back
`notes`         what is noted of a command, for the journal and for those who watch
`outbox`        answers that wait for room
`housekeeping`  what it does besides: events, heartbeats, lost clients
`watch`         when something of that is due: decisions only
`health`        what is known of a service: values only
==============  =====================================================================
"""

from bridge.worker.worker import Worker

__all__ = ['Worker']
