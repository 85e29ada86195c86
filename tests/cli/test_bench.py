"""The benchmark runs; what it measures is no test's business."""

from __future__ import annotations

import re
import sys

import pytest

from bridge.cli import bench, main


def test_it_measures_all_ways_and_prints_ratios(capsys):
    assert main(['bench', '--services', '1,2', '--commands', '30']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('responder: ')
    for line, name in zip(lines[2:], ('iblutil, 1', 'fast, 1', 'fast, 2'), strict=True):
        assert re.fullmatch(rf'{name} +\d+ \( *\d+\)( +\d+ \( *\d+\) +[\d.]+ x){{3}}', line)


def test_without_a_compiler_the_services_are_python(monkeypatch, tmp_path):
    monkeypatch.setattr(bench.shutil, 'which', lambda program: None)
    assert bench._responder(str(tmp_path))[0] == sys.executable
    times = bench.measure(bench._running(bench._responder(str(tmp_path)), 2), 5, str(tmp_path))
    assert {name: len(took) for name, took in times.items()} == {'bare': 5, 'await': 5, 'submit': 5, 'worker': 5}


@pytest.mark.parametrize('arguments', [['--services', '0'], ['--services', 'many'], ['--commands', '0']])
def test_numbers_that_make_no_sense_are_refused(arguments, capsys):
    assert main(['bench', *arguments]) == 2
    assert 'takes numbers' in capsys.readouterr().err
