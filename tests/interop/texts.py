"""JSON texts for the small readers of the languages that have none: what they must take, and what they must refuse."""

from __future__ import annotations

import json

TAKEN = [
    '{}', '[]', ' [ ] ', '{"a":1}', ' { "a" : [ 1 , 2 ] , "b" : { } } ', 'null', 'true', 'false', '""', '"a:b,c]}"',
    '0', '-0', '-1', '9223372036854775807', '-9223372036854775808', '1234567890123456789', '9007199254740993',
    '0.5', '-1.25', '1e5', '1E+5', '2e-3', '1.5e300',
    r'"\"\\\/\b\f\n\r\t"', r'"\u00e9\u2192\u0041"', r'"\ud83d\udc2d"', r'"\uD83D\uDC2D\u0000x"', '"Mäuschen→x🐭"',
    r'{"\u00e9":{"é2":[null,true,false,{"x":[[]]}]}}', '[[[[[[[[[[[[1]]]]]]]]]]]]', '[' * 150 + ']' * 150,
    json.dumps({'services': [{'name': 'cameras:left', 'ok': True, 'data': {'value': [None, 1.5, 'é' * 5000]}}] * 10}),
]  # fmt: skip
REFUSED = [
    '', ' ', '{', '[', '}', ']', '[1', '[1,', '[1,]', '[,1]', '{"a"', '{"a":', '{"a":1', '{"a":1,}', '{a:1}', '{"a" 1}',
    '{1:2}', '[1 2]', '1 2', '[]]', '{}{}', 'nul', 'nulll', 'True', 'tru', 'undefined', 'NaN', 'Infinity', '-', '+1',
    '01', '-01', '1.', '.5', '1e', '1e+', '0x10', '1.e5', '"', '"a', r'"\"', r'"\x41"', r'"\u"', r'"\u12"', r'"\u12g4"',
    '"\t"', '"\x01"', "'a'", '[1}', '{"a":1]', '/**/1', '[' * 1000, '[' * 1000 + ']' * 1000, '{"a":' * 1000,
    '\x00', '"\x00"',
]  # fmt: skip
