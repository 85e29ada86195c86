"""What Prometheus reads: the same as the page shows, as figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_Gauge = tuple[str, Callable[[Mapping[str, Any]], float]]
CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'


def metrics(state: Mapping[str, Any], results: Counter[tuple[str, str]], pages: int) -> bytes:
    """Return the text that Prometheus reads.

    Parameters
    ----------
    state : mapping
        `bridge.web.board.Board.snapshot`.
    results : Counter
        How many commands there were, by message and ``done``, ``warning`` or ``failed``.
    pages : int
        How many browsers look.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rig(state, results, pages))
    return generate_latest(registry)


class _Rig(Collector):
    def __init__(self, state: Mapping[str, Any], results: Counter[tuple[str, str]], pages: int) -> None:
        self._state, self._results, self._pages = state, results, pages

    def collect(self) -> Iterator[Metric]:
        state = self._state
        alone: dict[str, tuple[str, float]] = {
            'worker_up': ('1 if a worker serves the segment and goes on.', state['worker']['state'] == 'serving'),
            'recording': ('1 while a service or listener says RUNNING.', state['experiment']['running']),
            'recording_seconds': ('How long the present or last recording took.', state['experiment']['took_s'] or 0),
            'programs': ('Programs that are attached.', len(state['programs'])),
            'pages': ('Browsers that look at the status page.', self._pages),
        }
        for name, (says, value) in alone.items():
            family = GaugeMetricFamily(f'iblbridge_{name}', says, labels=['segment'])
            family.add_metric([state['segment']], float(value))
            yield family
        each: dict[str, _Gauge] = {
            'up': ('1 if it was heard in the last 30 s, and its last command reached it.', _is_up),
            'down': ('1 if its last command did not reach it.', lambda one: one['health'] == 'down'),
            'heard_seconds': ('How long ago it was heard; -1: never.', _heard),
            'round_trip_seconds': ('From the last command to its echo.', lambda one: one['rtt_us'] / 1e6),
            'status': ('As it said last: 0, 10, 20 is RUNNING, 30; -1: not known.', lambda one: one['status']),
        }
        served: dict[str, _Gauge] = {
            'up': ('1 if a program serves it.', _is_up),
            'heard_seconds': ('How long ago a master asked anything; -1: never.', _heard),
            'status': ('As masters are told: 0, 10, 20 is RUNNING, 30; -1: not known.', lambda one: one['status']),
            'refused': ('Messages of those who may not command.', lambda one: one['refused']),
        }
        yield from self._gauges('service', each, state['services'])
        yield from self._gauges('listener', served, state['listeners'])
        failures = CounterMetricFamily(
            'iblbridge_service_failures', 'Commands that it failed.', labels=['segment', 'service']
        )
        for service in state['services']:
            failures.add_metric([state['segment'], service['name']], service['failures'])
        yield failures
        commands = CounterMetricFamily(
            'iblbridge_commands', 'Commands that have ended.', labels=['segment', 'message', 'result']
        )
        for (message, result), number in sorted(self._results.items()):
            commands.add_metric([state['segment'], message, result], number)
        yield commands

    def _gauges(self, what: str, gauges: Mapping[str, _Gauge], of: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
        """Yield what there is to be said of each service, or of each listener."""
        for name, (says, value) in gauges.items():
            family = GaugeMetricFamily(f'iblbridge_{what}_{name}', says, labels=['segment', what])
            for one in of:
                family.add_metric([self._state['segment'], one['name']], float(value(one)))
            yield family


def _is_up(service: Mapping[str, Any]) -> bool:
    return bool(service['health'] == 'up' and service['light'] != 'none')


def _heard(one: Mapping[str, Any]) -> float:
    return float(one['age_ms'] / 1000 if one['age_ms'] >= 0 else -1)
