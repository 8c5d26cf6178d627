"""What one of a grid's processes takes of what all may have, and how it tells why it cannot serve."""

import pickle

from fedplan.errors import ConfigError, SettingsError, UnsupportedOpError
from fedplan.grid import Settings
from fedplan.grid.averaging.apart import memory_of_machine
from fedplan.grid.serving.processes.child import _that_travels, share_of


def test_memory_is_shared_out_and_what_is_counted_together_is_not():
    whole = Settings(remembered_bytes=900, sums_bytes=600, averaging_bytes=9 * 2**20, max_pending_bytes=5000)
    share = share_of(whole, 3)
    assert (share.remembered_bytes, share.sums_bytes, share.averaging_bytes) == (300, 200, 3 * 2**20)
    changed = {"remembered_bytes", "sums_bytes", "averaging_bytes"}
    assert share.model_dump(exclude=changed) == whole.model_dump(exclude=changed)


def test_an_averaging_plan_has_a_share_of_the_machine_where_nothing_is_said():
    assert share_of(Settings(), 2).averaging_bytes == memory_of_machine() // 4 // 2


def test_an_error_travels_as_it_is_and_else_its_words():
    error = SettingsError("such a setting")
    assert _that_travels(error) is error
    awkward = UnsupportedOpError("aten.x", source="net.py:1")
    awkward.itself = lambda: None  # pickle has no form for this
    told = pickle.loads(pickle.dumps(_that_travels(awkward)))
    assert isinstance(told, ConfigError)
    assert str(told) == str(awkward)
