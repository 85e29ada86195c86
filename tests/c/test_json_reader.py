"""The readers in ``csrc/json.c`` against the standard library's `json` and against python-msgpack.

The functions are internal to the library (hidden there), so the one file is compiled by itself and loaded through
cffi in ABI mode. Python's parsers are the judges; where they are laxer than the contract in ``json.h`` the helpers
below add what is missing.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import cffi
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import CSRC

SOURCE = CSRC / 'json.c'
COMPILER = shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
DEPTH = 64

CDEF = """
size_t utf8_check(const char *text, size_t bytes);
const char *json_check(const char *text, size_t bytes, size_t *where);
const char *msgpack_check(const unsigned char *data, size_t bytes, size_t *used, size_t *where);
const char *msgpack_to_json(const unsigned char *data, size_t bytes, char *text, size_t capacity, size_t *needed);
int msgpack_find_str(const unsigned char *data, size_t bytes, const char *key, const char **text, size_t *length);
"""

fuzzed = settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


class Refused(Exception):  # noqa: N818
    """What a parser says to a bad input, whichever parser."""


class Shim:
    """The five functions with Python values."""

    def __init__(self, path: Path) -> None:
        self.ffi = cffi.FFI()
        self.ffi.cdef(CDEF)
        self.lib: Any = self.ffi.dlopen(str(path))

    def _raise_if(self, sentence: Any) -> None:
        if sentence != self.ffi.NULL:
            raise Refused(str(self.ffi.string(sentence)))

    def utf8_check(self, text: bytes) -> int:
        return int(self.lib.utf8_check(text, len(text)))

    def json_check(self, text: bytes) -> None:
        where = self.ffi.new('size_t *')
        sentence = self.lib.json_check(text, len(text), where)
        assert where[0] <= len(text)
        self._raise_if(sentence)
        assert where[0] == len(text)

    def msgpack_check(self, data: bytes) -> int:
        used, where = self.ffi.new('size_t *'), self.ffi.new('size_t *')
        sentence = self.lib.msgpack_check(data, len(data), used, where)
        assert where[0] <= len(data)
        self._raise_if(sentence)
        return int(used[0])

    def to_json(self, data: bytes) -> str:
        needed = self.ffi.new('size_t *', 99)
        sentence = self.lib.msgpack_to_json(data, len(data), self.ffi.NULL, 0, needed)
        assert (needed[0] == 0) == (sentence != self.ffi.NULL)
        self._raise_if(sentence)
        size = int(needed[0])
        text = self.ffi.new('char[]', size)
        assert self.lib.msgpack_to_json(data, len(data), text, size, needed) == self.ffi.NULL
        assert needed[0] == size
        raw = bytes(self.ffi.buffer(text))
        assert raw.index(0) == size - 1
        assert self.lib.msgpack_to_json(data, len(data), text, size - 1, needed) == self.ffi.NULL
        assert needed[0] == size
        assert size == 1 or text[0] == b'\0'
        return raw[:-1].decode('ascii')

    def find_str(self, data: bytes, key: bytes) -> str | None:
        text, length = self.ffi.new('const char **'), self.ffi.new('size_t *')
        buffer = self.ffi.from_buffer('unsigned char[]', data)
        if not self.lib.msgpack_find_str(buffer, len(data), key, text, length):
            return None
        return bytes(self.ffi.buffer(text[0], length[0])).decode()


@pytest.fixture(scope='session')
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    if COMPILER is None:
        pytest.skip('no C compiler')
    library = tmp_path_factory.mktemp('json') / ('json.dll' if sys.platform == 'win32' else 'json.so')
    position = [] if sys.platform == 'win32' else ['-fPIC']
    flags = ['-std=c11', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', *position]
    subprocess.run([COMPILER, *flags, str(SOURCE), '-o', str(library)], check=True)
    return Shim(library)


# The judges. Maps become Pairs, so that duplicate keys and their order count too.


class Pairs(list[Any]):
    """A map as the list of its pairs, distinct from an array of arrays; `same` compares them."""


def pairs(items: Any) -> Pairs:
    return Pairs([key, value] for key, value in items)


def nesting(value: Any) -> int:
    if isinstance(value, Pairs):
        return 1 + max((nesting(item) for _, item in value), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return []


def no_constant(name: str) -> None:
    raise ValueError(name)


def strict_loads(text: bytes) -> Any:
    """`json.loads`, with the three things it forgives refused: NaN and infinity, lone surrogates, depth."""
    try:
        value = json.loads(text.decode('utf-8'), object_pairs_hook=pairs, parse_constant=no_constant)
        for string in strings(value):
            string.encode('utf-8')
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error
    if nesting(value) > DEPTH:
        raise Refused('too deep')
    return value


def strict_unpack(data: bytes) -> Any:
    """The one msgpack object that `data` is."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, object_pairs_hook=pairs)
    except Exception as error:  # it raises half a dozen unrelated classes, TypeError for unhashable keys among them
        raise Refused(repr(error)) from error


def as_json_says(value: Any) -> Any:
    """What `msgpack_to_json` promises to make of an unpacked value."""
    if isinstance(value, Pairs):
        return Pairs([as_key(key), as_json_says(item)] for key, item in value)
    if isinstance(value, list):
        return [as_json_says(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, msgpack.ExtType | msgpack.Timestamp):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_key(key: Any) -> str | float:
    if isinstance(key, list):
        raise Refused('a container as key')
    value = as_json_says(key)
    return value if isinstance(value, str | float) else json.dumps(value)


def same(a: Any, b: Any) -> bool:
    """Equal, of the same types (1 is not 1.0 nor True) and signs (0.0 is not -0.0).

    Where a key of `b` is a float, that of `a` is any text of it.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, list) and len(a) != len(b):
        return False
    if isinstance(a, Pairs):
        pairings = zip(a, b, strict=True)
        return all(same(float(x) if isinstance(y, float) else x, y) and same(v, w) for (x, v), (y, w) in pairings)
    if isinstance(a, list):
        return all(map(same, a, b))
    return struct.pack('d', a) == struct.pack('d', b) if isinstance(a, float) else bool(a == b)


def only_json(value: Any) -> bool:
    """Whether msgpack_check has to accept this unpacked value."""
    if isinstance(value, Pairs):
        return all(isinstance(key, str) and only_json(item) for key, item in value)
    if isinstance(value, list):
        return all(map(only_json, value))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def refuses(function: Any, *args: Any) -> bool:
    try:
        function(*args)
    except Refused:
        return True
    return False


def pack(value: Any, single: bool) -> bytes:
    """msgpack of `value`, with floats in 4 bytes if `single` and if all of them fit."""
    try:
        return bytes(msgpack.packb(value, use_single_float=single))
    except OverflowError:
        return bytes(msgpack.packb(value))


# Material.

keys = st.sampled_from(['a', 'bé', '', 'error'])
integers = st.integers(-(2**63), 2**64 - 1)
doubles = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | integers | doubles | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
anything = st.recursive(
    scalars
    | st.floats()
    | st.floats(width=32)
    | st.binary()
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: st.lists(inner) | st.dictionaries(scalars | st.binary(), inner),
    max_leaves=10,
)
FRAGMENTS = [
    *'[]{},:"\\019-+.eE \t\n\r\x00\x1f\x7fé😀',
    *('null', 'true', 'false', 'NaN', '-Infinity', '\\u00e9', '\\ud83d', '\\ude00', '\\n', '\\x', '\\u12'),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3)).map(lambda parts: ''.join(parts).encode())


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes with a few of them replaced, removed, inserted or repeated."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 2))
        data[at : at + cut] = draw(
            st.binary(max_size=2)
            | st.sampled_from([part.encode() for part in FRAGMENTS])
            | st.just(bytes(data[at : at + 8]))
        )
    return bytes(data)


@st.composite
def dumped(draw: st.DrawFn) -> bytes:
    return json.dumps(draw(values), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode()


packed = st.builds(pack, anything, st.booleans())


# Tests.


@fuzzed
@given(value=values)
def test_what_msgpack_packs_comes_out_as_the_same_json_value(shim: Shim, value: Any) -> None:
    data = msgpack.packb(value)
    assert shim.msgpack_check(data) == len(data)
    text = shim.to_json(data)
    assert same(strict_loads(text.encode()), strict_loads(json.dumps(value).encode()))
    assert all(' ' <= character <= '~' for character in text)
    shim.json_check(text.encode())


@fuzzed
@given(value=anything, single=st.booleans())
def test_what_json_lacks_comes_out_as_the_header_promises(shim: Shim, value: Any, single: bool) -> None:
    data = pack(value, single)
    unpacked = strict_unpack(data)
    assert same(strict_loads(shim.to_json(data).encode()), as_json_says(unpacked))
    assert refuses(shim.msgpack_check, data) != only_json(unpacked)


@fuzzed
@given(data=st.binary() | mutated(packed))
def test_any_bytes_are_refused_or_read_as_msgpack_reads_them(shim: Shim, data: bytes) -> None:
    try:
        text = shim.to_json(data)
    except Refused:
        try:
            expected = as_json_says(unpacked := strict_unpack(data))
        except Refused:
            return  # both refuse
        assert nesting(unpacked) > DEPTH, expected
        return
    shim.json_check(text.encode())
    value = strict_loads(text.encode())
    try:
        expected = as_json_says(strict_unpack(data))
    except Refused as refused:
        assert 'imestamp' in str(refused) or 'nanoseconds' in str(refused)  # an ext that only python-msgpack looks into
        return
    assert same(value, expected)


@fuzzed
@given(data=st.binary() | mutated(packed))
def test_msgpack_check_agrees_with_msgpack_on_what_it_accepts(shim: Shim, data: bytes) -> None:
    try:
        used = shim.msgpack_check(data)
    except Refused:
        try:
            unpacked = strict_unpack(data)
        except Refused:
            return
        assert not only_json(unpacked) or nesting(unpacked) > DEPTH
        return
    unpacked = strict_unpack(data[:used])
    assert only_json(unpacked)
    assert same(strict_loads(shim.to_json(data[:used]).encode()), unpacked)


@fuzzed
@given(text=st.binary() | st.text().map(str.encode) | texts | dumped() | mutated(dumped()))
def test_json_check_accepts_exactly_what_a_strict_loads_accepts(shim: Shim, text: bytes) -> None:
    assert refuses(shim.json_check, text) == refuses(strict_loads, text)


@pytest.mark.parametrize('opening, closing', [('[', ']'), ('{"a":', '}'), ('[{"a":', '}]')])
@pytest.mark.parametrize('levels', [1, 31, 32, 33, 63, 64, 65, 66, 100])
def test_depth_ends_at_64_in_text_and_msgpack(shim: Shim, opening: str, closing: str, levels: int) -> None:
    text = (opening * levels + '1' + closing * levels).encode()
    assert refuses(shim.json_check, text) == refuses(strict_loads, text)
    data = msgpack.packb(json.loads(text))
    too_deep = levels * len(closing) > DEPTH
    assert refuses(shim.msgpack_check, data) == too_deep
    assert refuses(shim.to_json, data) == too_deep


@fuzzed
@given(data=st.binary() | mutated(st.text().map(str.encode)))
def test_utf8_check_stops_where_python_does(shim: Shim, data: bytes) -> None:
    try:
        data.decode('utf-8')
        expected = len(data)
    except UnicodeDecodeError as error:
        expected = error.start
    assert shim.utf8_check(data) == expected


@fuzzed
@given(value=st.dictionaries(keys | st.text(), values, max_size=5), key=keys)
def test_find_str_finds_what_a_dict_has(shim: Shim, value: dict[str, Any], key: str) -> None:
    expected = value.get(key)
    assert shim.find_str(msgpack.packb(value), key.encode()) == (expected if isinstance(expected, str) else None)


@fuzzed
@given(data=st.binary() | mutated(packed), key=keys.map(str.encode))
def test_find_str_takes_any_bytes(shim: Shim, data: bytes, key: bytes) -> None:
    found = shim.find_str(data, key)
    assert found is None or found.encode() in data
