"""The library as Python sees it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from systems import WINDOWS

from bridge import errors, native, numbers
from bridge.segment import library
from bridge.segment.client import Client
from bridge.segment.served import COMMAND, Segment


def test_the_declarations_hold_nothing_that_the_parser_would_have_to_know():
    header = """
    /* a comment */
    #ifndef X_H
    #define X_H
    #define NUMBER -8001 /* why */
    #ifdef __cplusplus
    extern "C" {
    #endif
    IBLB_API int f(int a);
    #endif
    """
    kept = [line for line in library.declarations(header).split('\n') if line.strip()]
    assert [line.strip() for line in kept] == ['#define NUMBER -8001', 'int f(int a);']


def test_every_code_has_a_sentence_and_a_name():
    assert len(numbers.CODES) > 40
    for name, code in numbers.CODES.items():
        assert len(library.error_text(code)) > 10, name
        assert numbers.CODE_NAMES[code] == name


def test_the_generated_numbers_are_those_of_the_library_that_is_loaded():
    codes = {name for name in dir(library.lib) if name.startswith(('IBLB_E_', 'IBLB_W_'))} | {'IBLB_OK'}
    assert set(numbers.CODES) == codes
    for name, code in numbers.CODES.items():
        assert getattr(library.lib, name) == code, name
    for name, number in (numbers.MESSAGES | numbers.EVENTS).items():
        assert getattr(library.lib, f'IBLB_{name}') == number, name


def test_a_code_that_does_not_exist_has_no_text():
    assert library.error_text(-1) == ''


def test_the_descriptor_is_the_c_structure_field_by_field():
    row = library.ffi.new('struct iblbw_command *')
    row.request, row.ttl, row.message, row.payload_bytes = 2**63, -5, -7, 9
    seen = np.frombuffer(library.ffi.buffer(row), dtype=COMMAND)[0]
    assert (seen['request'], seen['ttl'], seen['message'], seen['payload_bytes']) == (2**63, -5, -7, 9)
    assert COMMAND.itemsize == library.ffi.sizeof('struct iblbw_command')


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('IBLB_E_ARGUMENT', errors.Misuse),
        ('IBLB_E_NO_SEGMENT', errors.NoSegment),
        ('IBLB_E_NO_WORKER', errors.NoWorker),
        ('IBLB_E_WORKER_BUSY', errors.WorkerBusy),
        ('IBLB_E_PARTIAL', errors.ServiceFailure),
        ('IBLB_E_OUTCOME_UNKNOWN', errors.OutcomeUnknown),
        ('IBLB_E_SYSTEM', errors.BridgeError),
    ],
)
def test_a_code_becomes_the_exception_of_its_kind(name, kind):
    code = numbers.CODES[name]
    error = errors.error_for(code, 'a sentence', {'code': 1})
    assert type(error) is kind
    assert (error.code, error.name, error.text, error.response) == (code, name, 'a sentence', {'code': 1})
    assert name in str(error)


def test_warnings_and_success_are_no_exceptions():
    assert errors.check(0) == 0
    assert errors.check(numbers.CODES['IBLB_W_NO_WORKER']) == 5001


def test_the_library_and_its_headers_and_tools_lie_in_one_place():
    parts = ['include/iblbridge.h', native.LIBRARY, native.IBLB]
    for part in [*parts, *([] if WINDOWS else ['lib/pkgconfig/iblbridge.pc'])]:
        assert (native.PREFIX / part).is_relative_to(native.PREFIX), part
        assert (native.PREFIX / part).exists(), part


def test_the_command_iblb_is_the_program_with_its_output_and_its_exit_status():
    code = 'from bridge.native import iblb; iblb()'
    for words, status in ((['codes'], 0), ([], 2), (['call', 'é ж', 'PING', '--open', '0'], None), (['x y', '"'], 2)):
        direct = subprocess.run([native.IBLB, *words], capture_output=True, check=False, timeout=30)
        done = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, check=False, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (direct.returncode, direct.stdout, direct.stderr)
        assert status is None or done.returncode == status


def test_sentences_leave_the_library_as_ascii_and_python_shows_them_as_they_are():
    with Segment('rig') as segment, Client('rig', 'caméra') as client:
        segment.publish_services(['ephys'])
        with pytest.raises(errors.Misuse) as unknown:
            client.send('EXPINIT', services=['caméra 📷'])
        assert '"caméra 📷"' in unknown.value.text
        raw = library.text_of(library.lib.iblb_last_error, client._handle)
        assert raw.isascii() and '"cam\\u00e9ra \\ud83d\\udcf7"' in raw
        for capacity in range(2, len(raw) + 3):
            cut = library.text_of(library.lib.iblb_last_error, client._handle, capacity=capacity)
            assert raw.startswith(cut) and len(cut) < capacity and not cut.endswith('\\')


def test_a_service_that_there_is_none_of_is_told_with_those_that_there_are(serve):
    serve('rig', {f'camera-{i}': f'udp://127.0.0.1:{9000 + i}' for i in range(100)})
    with (
        Client('rig') as client,
        pytest.raises(errors.Misuse, match='no service "scope"; there are: camera-0, camera-1, ') as told,
    ):
        client.send('EXPINIT', services=['scope'])
    assert told.value.text.endswith('. Check the name, or add it and reload the worker: iblbridge reload rig.')
