"""How files of services and settings are read: YAML, with what PyYAML lets pass refused or kept.

- PyYAML keeps the last of two equal keys without a word; here that is an error.
- It takes ``on``, ``no`` and the like for true and false. A key is always text, so one of these is refused as it stands
  there; a value is kept as a `Word`, so that a sentence can show what was written.
- Aliases (``*name``) may repeat what an anchor (``&name``) has, but a few lines of them can stand for billions of
  values: what a file amounts to is counted before anything is made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.addresses import ConfigError, kind_of

MOST_BYTES = 1 << 18  # 128 services with 2 kB each; PyYAML reads so much in seconds
MOST_VALUES = 100_000


class Word(str):
    """A word that YAML takes for true or false, as it was written; `meant` is what YAML takes it for."""

    __slots__ = ('meant',)
    meant: bool


def read_mapping(path: str | Path, example: str) -> dict[Any, Any]:
    """Return the mapping that a YAML file holds, {} for an empty one.

    Parameters
    ----------
    path : str or Path
        The file.
    example : str
        A line of such a file, for sentences.

    Raises
    ------
    ConfigError
        It cannot be read, is no YAML or too large, or holds something else.
    """
    where = str(path)
    data = _parsed(_read(path, example), where, example)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f'{where}: contains {kind_of(data)} instead of a mapping; write lines such as "{example}".')
    return data


def _read(path: str | Path, example: str) -> bytes:
    try:
        with open(path, 'rb') as file:
            text = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise ConfigError(f'{path}: {reason}; give the path of a YAML file with lines such as "{example}".') from e
    if len(text) > MOST_BYTES:
        raise ConfigError(f'{path}: has more than {MOST_BYTES >> 10} KiB; write lines such as "{example}".')
    return text


def _parsed(text: bytes, where: str, example: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if node is not None:
                _check_amount(node, where, example)
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                line = key.start_mark.line + 1
                if key.tag not in _TEXT:
                    found = self.construct_object(key)
                    kind = 'true or false for YAML' if isinstance(found, Word) else kind_of(found)
                    name = key.value or '~'
                    raise ConfigError(
                        f'{where}: the name {name} in line {line} is not text but {kind}; write it in quotes, "{name}".'
                    )
                if key.value in seen:
                    raise ConfigError(
                        f'{where}: {key.value} appears twice (again in line {line}); keep one of the two.'
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

        def construct_word(self, node: yaml.ScalarNode) -> Word:
            word = Word(node.value)
            word.meant = bool(self.construct_yaml_bool(node))
            return word

    Loader.add_constructor('tag:yaml.org,2002:bool', Loader.construct_word)
    try:
        return yaml.load(text, Loader)  # noqa: S506 (a SafeLoader)
    except RecursionError as e:
        raise ConfigError(f'{where}: nested too deeply; write lines such as "{example}".') from e
    except ConfigError:
        raise
    except Exception as e:  # PyYAML's, or whatever its constructors raise of a value that is none of its tag
        own = isinstance(e, (yaml.YAMLError, ValueError))
        reason = ' '.join(str(e).split()) if own else 'a value does not fit its tag'
        if getattr(e, 'encoding', 'unicode') != 'unicode':  # the reader's: bytes that are no text
            raise ConfigError(f'{where}: is not UTF-8 ({reason}); save it with this encoding.') from e
        raise ConfigError(f'{where}: not valid YAML ({reason}); write lines such as "{example}".') from e


_TEXT = ('tag:yaml.org,2002:str', 'tag:yaml.org,2002:merge')


def _check_amount(root: Any, where: str, example: str) -> None:
    """Raise ConfigError if a document, its aliases written out, holds very much, or holds itself."""
    amounts: dict[int, int] = {}

    def amount(node: Any) -> int:
        if not isinstance(node.value, list):
            return 1
        if id(node) not in amounts:
            amounts[id(node)] = MOST_VALUES + 1  # if it comes by again on the way, it holds itself
            parts = (part for item in node.value for part in (item if isinstance(item, tuple) else (item,)))
            amounts[id(node)] = 1 + sum(map(amount, parts))
        return amounts[id(node)]

    if amount(root) > MOST_VALUES:
        raise ConfigError(f'{where}: its aliases (*) expand to too much; write lines such as "{example}".')
