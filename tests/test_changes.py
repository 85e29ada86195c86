"""What a change of the configuration comes to: which lines go on, what is different."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bridge.changes import NOTHING, changes, kept_lines
from bridge.config import ListenerConfig, RigConfig, ServiceConfig

NAMES, PLACES = st.sampled_from('abcdef'), st.sampled_from('123456')
LISTS = st.dictionaries(NAMES, PLACES)
UNIQUE = LISTS.map(lambda places: {name: place for place, name in {p: n for n, p in places.items()}.items()})
SETTINGS = st.builds(dict, optional=st.booleans(), timeout=st.sampled_from([None, 5.0, 30.0]))
SERVICES = st.dictionaries(NAMES, st.tuples(PLACES, SETTINGS)).map(
    lambda found: {name: ServiceConfig(name, place, **settings) for name, (place, settings) in found.items()}
)
RIGS = st.builds(
    RigConfig, SERVICES, heartbeat=st.sampled_from([0.0, 5.0]), ask=st.booleans(), any_reference=st.booleans()
)


@given(UNIQUE, UNIQUE)
def test_who_is_at_an_address_keeps_its_line_whatever_it_is_called(old, new):
    kept = kept_lines(old, new)
    assert set(kept) == {name for name, place in new.items() if place in old.values()}
    assert all(old[was] == new[name] for name, was in kept.items())


@given(LISTS, LISTS)
def test_no_line_goes_on_as_two_even_where_several_services_share_an_address(old, new):
    kept = kept_lines(old, new)
    assert len(set(kept.values())) == len(kept)
    assert all(old[was] == new[name] for name, was in kept.items())
    assert all(kept[name] == name for name, place in new.items() if old.get(name) == place)
    left = [place for name, place in old.items() if name not in kept.values()]
    assert not any(new[name] in left for name in new.keys() - kept.keys())


@given(RIGS, RIGS)
def test_the_changes_lead_from_the_old_list_to_the_new_one(old, new):
    found = changes(old, new)
    services = {name: one for name, one in old.services.items() if name not in found.removed}
    services |= {name: new.services[name] for name in (*found.added, *found.changed)}
    assert services == new.services
    assert found.reordered == (
        [n for n in new.services if n in old.services] != [n for n in old.services if n in new.services]
    )
    assert bool(found) == (old != new or list(old.services) != list(new.services))
    assert (str(found) == NOTHING) == (not found)


@given(RIGS)
def test_what_is_the_same_is_no_change(rig):
    assert not changes(rig, replace(rig, services=dict(rig.services)))


def test_listeners_and_settings_of_the_rig_are_named():
    listener = ListenerConfig('cameras', port=0)
    one = RigConfig(heartbeat=5.0, listen={'cameras': listener})
    found = changes(RigConfig(), one)
    assert (found.rig, found.moved, found.listeners, found.of_services) == (('heartbeat',), ('cameras',), (), False)
    assert str(found) == 'changed heartbeat of the rig, listener cameras'
    for other, moved, changed in (
        (replace(listener, port=11005), ('cameras',), ()),
        (replace(listener, host='0.0.0.0'), ('cameras',), ()),
        (replace(listener, masters=('192.168.0.3',)), (), ('cameras',)),
        (listener, (), ()),
    ):
        found = changes(one, replace(one, listen={'cameras': other}))
        assert (found.moved, found.listeners) == (moved, changed)
    assert changes(one, replace(one, listen={})).moved == ('cameras',)
