from fedplan.grid.memory import Memory


def test_the_values_used_last_are_remembered():
    memory = Memory(4)
    for key in "abcd":
        memory.put(key, key.upper())
    assert memory.get("a") == "A"
    memory.put("e", "E")
    assert memory.get("b") is None
    assert [memory.get(key) for key in "acde"] == list("ACDE")


def test_sizes_count():
    memory = Memory(100)
    for key in range(10):
        memory.put(key, key, 25)
    assert [key for key in range(10) if memory.get(key) is not None] == [6, 7, 8, 9]


def test_what_would_drive_most_others_out_is_not_remembered():
    memory = Memory(100)
    memory.put("small", 1, 25)
    memory.put("large", 2, 26)
    assert (memory.get("small"), memory.get("large")) == (1, None)


def test_a_value_may_be_put_again_and_forgotten():
    memory = Memory(4)
    memory.put("a", 1)
    memory.put("a", 2)
    assert memory.get("a") == 2
    memory.forget("a")
    memory.forget("a")
    assert memory.get("a") is None
    for key in "wxyz":
        memory.put(key, key)
    assert memory.get("w") == "w"
