"""The other direction: the worker is a service, and a program behind it does what masters ask.

===========  ==================================================================================
`rules`      what a message is, what is said to a master, what a copy is: functions of values
`memory`     what a service knows of itself, and what of it outlives its worker
`owed`       what a worker that is killed owes its masters, and what the next one does about it
`asked`      what a desk is asked and says, and what it needs of a program: values
`master`     one master: what it said lately, and what is to be said to it
`strangers`  who may not command
`desk`       the machine of one listener: what is asked, in hand and answered; without sockets or clock
`server`     the socket and the timer of a desk, in the network thread
===========  ==================================================================================

What a listener hands on goes to an `asked.Program`; the one that is behind a segment is in `bridge.worker.behind`.
"""
