"""What code written for ``iblrig.net.Auxiliaries`` relies on, in the manner of iblrig's own tests: with iblutil
mocked."""

import asyncio
import unittest
from unittest.mock import MagicMock, patch

from bridge import auxiliaries
from bridge.auxiliaries import Auxiliaries

net = auxiliaries.net


class MockedServices(unittest.TestCase):
    """Two clients whose communicators and services are mocks; the patches end before the test begins."""

    @patch('bridge.auxiliaries.net.app.EchoProtocol.client')
    @patch('bridge.auxiliaries.net.app.Services', spec=net.app.Services)
    def setUp(self, services: MagicMock, client: MagicMock) -> None:
        self.services, self.client = services, client
        self.clients = {'left': 'udp://192.168.10.1', 'right': 'udp://192.168.10.2'}
        self.aux = Auxiliaries(self.clients)
        self.addCleanup(self.aux.close)

    def test_communicators_and_services_exist_when_the_constructor_returns(self) -> None:
        self.services.assert_called()
        for name, uri in self.clients.items():
            self.client.assert_any_await(uri, name)
        self.assertIs(self.aux.services, self.services())
        self.assertTrue(self.aux.is_connected)
        self.assertTrue(self.aux.is_running)
        with self.aux.connected:
            self.aux.connected.wait(timeout=0.01)

    @patch('bridge.auxiliaries.asyncio.sleep')
    def test_a_push_without_wait_moves_from_the_queue_to_the_log(self, _: MagicMock) -> None:
        self.services().info.return_value = {'left': [20, {}], 'right': [20, {}]}
        with self.aux.response_received:
            key = self.aux.push('EXPINFO', {'subject': 'foo'}, wait=False)
            self.assertIsInstance(key, float)
            self.assertIn(key, self.aux._queued)
            self.assertTrue(self.aux.response_received.wait(1))
        self.assertEqual(self.aux._log[key], self.services().info.return_value)
        self.assertNotIn(key, self.aux._queued)
        self.services().info.assert_awaited_once_with({'subject': 'foo'})

    @patch('bridge.auxiliaries.asyncio.sleep')
    def test_a_push_with_wait_returns_what_the_services_method_returned(self, _: MagicMock) -> None:
        self.services().timeout = 1
        response = {'left': ['2024-01-01_1_foo', None], 'right': ['2024-01-01_1_foo', None]}
        self.services().start.return_value = response
        self.assertEqual(self.aux.push('EXPSTART', '2024-01-01_1_foo', wait=True), response)
        self.assertFalse(self.aux._queued)
        self.assertIn(response, self.aux._log.values())
        self.services().start.assert_awaited_once_with('2024-01-01_1_foo')

    def test_every_message_calls_its_method(self) -> None:
        calls = {
            'EXPINIT': ('init', (), {}),
            'EXPSTART': ('start', ('ref', {'a': 1}), {}),
            'EXPEND': ('stop', (), {'immediately': False}),
            'EXPINTERRUPT': ('stop', (), {'immediately': True}),
            'EXPCLEANUP': ('cleanup', (), {}),
            'EXPSTATUS': ('status', ('RUNNING',), {}),
            'EXPINFO': ('info', ('RUNNING', {}), {}),
            'ALYX': ('alyx', (None,), {}),
        }
        for message, (method, args, kwargs) in calls.items():
            with self.subTest(message):
                mock = getattr(self.services(), method)
                self.assertIs(self.aux.push(message, *args, wait=True), mock.return_value)
                mock.assert_awaited_with(*args, **kwargs)

    def test_submit_tells_the_result_of_a_mock_as_outcomes(self) -> None:
        self.services().init.return_value = {'left': [None], 'right': [1]}
        outcomes = self.aux.submit('EXPINIT').result(1)
        self.assertEqual(list(outcomes), ['left', 'right'])
        self.assertTrue(all(outcome.ok for outcome in outcomes.values()))
        self.assertEqual(outcomes['right'].reply, [1])

    def test_an_unknown_message_is_a_value_error(self) -> None:
        for message in ('EXPBAR', 3, 0, 'EXPINIT|EXPEND'):
            self.assertRaises(ValueError, self.aux.push, message)
            self.assertRaises(ValueError, self.aux.submit, message)

    @patch('bridge.auxiliaries.asyncio.sleep')
    def test_an_exception_of_the_services_is_logged_and_returned(self, _: MagicMock) -> None:
        self.services().timeout = 1
        self.services().init.side_effect = asyncio.TimeoutError('blah')
        with self.assertLogs('bridge.auxiliaries', 'ERROR'):
            result = self.aux.push('EXPINIT', wait=True)
        self.assertIsInstance(result, asyncio.TimeoutError)
        self.services().init.reset_mock(side_effect=True)
        self.assertIs(self.aux.push('EXPINIT', wait=True), self.services().init.return_value)

    @patch('bridge.auxiliaries.asyncio.sleep')
    def test_an_entry_made_by_hand_is_carried_out_or_refused(self, _: MagicMock) -> None:
        message = net.base.ExpMessage
        with self.aux.response_received, self.assertLogs('bridge.auxiliaries', 'ERROR'):
            self.aux._queued[1] = [message.ALYX & message.EXPEND, (), {}]
            self.assertTrue(self.aux.response_received.wait(timeout=0.5))
            self.assertIsInstance(self.aux._log[1], NotImplementedError)
            self.aux._queued[2] = ['EXPINIT']
            self.assertTrue(self.aux.response_received.wait(timeout=0.5))
            self.assertIsInstance(self.aux._log[2], (TypeError, ValueError))
            self.aux._queued[3] = [message.EXPINIT, ('data',), {}]
            self.assertTrue(self.aux.response_received.wait(timeout=0.5))
            self.assertIs(self.aux._log[3], self.services().init.return_value)
        self.services().init.assert_awaited_once_with('data')
        self.assertFalse(self.aux._queued)

    def test_no_time_at_all_is_a_runtime_error_and_nothing_is_sent(self) -> None:
        self.aux.refresh_rate = self.services().timeout = 0
        for _ in range(50):
            self.assertRaises(RuntimeError, self.aux.push, 'EXPINIT', wait=True)
        self.services().init.assert_not_called()

    def test_after_close_nothing_is_connected(self) -> None:
        self.aux.close()
        self.assertFalse(self.aux.is_connected)
        self.assertFalse(self.aux.is_running)
        self.assertTrue(self.aux.stop_event.is_set())
        self.services().close.assert_called()
        self.assertRaises(RuntimeError, self.aux.push, 'EXPINIT', wait=True)


class NoClients(unittest.TestCase):
    """A rig without remote services."""

    def test_no_clients_is_a_harmless_rig(self) -> None:
        aux = Auxiliaries({})
        self.assertFalse(aux.is_connected)
        self.assertTrue(aux.is_running)
        self.assertIsNone(aux.services)
        self.assertEqual(aux.submit('EXPINIT').result(1), {})
        self.assertEqual(aux.push('EXPINIT', wait=True), {})
        aux.close()
        aux.close()
        self.assertFalse(aux.is_running)


if __name__ == '__main__':
    unittest.main()
