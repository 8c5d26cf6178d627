"""The two configurations: every wrong key is named, and no value is repeated."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import ConfigError
from fedplan.wire.config import CheckpointsKept, ServerConfig, parse_client_config, parse_server_config

CLIENT = {"name": "mnist", "version": "1.0"}
SECRET = "do-not-repeat-me"


def client(**keys):
    return parse_client_config(CLIENT | keys)


def server(**keys):
    return parse_server_config(keys)


def test_a_client_config_is_read():
    config = client(batch_size=64, lr=0.01, max_updates=100, max_epochs=2)

    assert (config.name, config.version) == ("mnist", "1.0")
    assert (config.batch_size, config.lr, config.max_updates, config.max_epochs) == (64, 0.01, 100, 2)


def test_an_owners_own_keys_are_kept():
    assert client(momentum=0.9, layers=[1, 2]).extra == {"momentum": 0.9, "layers": [1, 2]}


def test_an_empty_server_config_has_no_limit_but_that_a_worker_is_gone_after_a_day():
    config = server()

    assert config.model_dump(exclude_none=True) == {
        "pool_selection": "random",
        "place_timeout": 86_400.0,
        "iterative_plan": False,
        "weighting": "samples",
        "metrics": [],
        "public": False,
        "report_formats": [],
        "keep_checkpoints": "all",
    }


def test_every_key_of_a_server_config_is_read():
    raw = {
        "min_workers": 2,
        "max_workers": 5,
        "pool_selection": "iterate",
        "num_cycles": 3,
        "do_not_reuse_workers_until_cycle": 0,
        "most_cycles_per_day": 2,
        "cycle_length": 28800,
        "place_timeout": 3600,
        "min_diffs": 2,
        "max_diffs": 4,
        "over_selection": 1.5,
        "minimum_upload_speed": 0.5,
        "minimum_download_speed": 0,
        "iterative_plan": True,
        "strategy": {"name": "fedadam", "beta1": 0.5},
        "weighting": "uniform",
        "untold_weight": 10,
        "max_weight": 1000.0,
        "max_norm": 50,
        "metrics": ["update_norm"],
        "best": {"metric": "accuracy", "mode": "max"},
        "stop": {"metric": "loss", "mode": "min", "patience": 3},
        "evaluation": {"fraction": 0.25, "reports": 9, "length": 60},
        "public": True,
        "report_formats": ["topk", "int8"],
        "keep_checkpoints": {"last": 3, "every": 10, "best": True},
        "keep_diffs": 5,
        "authentication": {"secret": SECRET},
        "secure_aggregation": {"workers": 10, "clip": 0.5, "level": "honest", "dropout": 0.2, "bits": 10},
        "privacy": {
            "mechanism": "central",
            "clip": 0.5,
            "noise_multiplier": 1,
            "cohort": 100,
            "delta": 1e-6,
            "max_epsilon": 8,
            "clipping": "per_layer",
        },
    }

    config = parse_server_config(raw)

    assert config.model_dump(exclude_unset=True) == raw
    assert set(raw) == set(ServerConfig.model_fields)


def test_an_unknown_key_is_named_and_the_known_ones_are_listed():
    with pytest.raises(
        ConfigError, match="server_config: 'max_worker' is not a key of it; the keys are"
    ) as error:
        server(max_worker=5)

    assert all(key in str(error.value) for key in ServerConfig.model_fields)


def test_an_unknown_key_of_the_authentication_is_named_with_the_keys_there():
    keys = "secret, pub_key, jwks_url, aud, iss, leeway, require_exp, endpoint, certificate"
    told = rf"'authentication\.sekret' .*; the keys are {keys}; did you mean 'secret'\?$"
    with pytest.raises(ConfigError, match=told):
        server(authentication={"secret": "x", "sekret": "y"})


def test_every_wrong_key_is_named():
    with pytest.raises(ConfigError) as error:
        server(min_workers=0, cycle_length="long", pool="x")

    assert all(f"'{key}'" in str(error.value) for key in ("min_workers", "cycle_length", "pool"))


@pytest.mark.parametrize(
    "config",
    [
        {"cycle_length": 1e-9},
        {"place_timeout": 0.009},
        {"evaluation": {"length": 1e-3}},
        {"secure_aggregation": {"workers": 3, "clip": 1.0, "stage_length": 1e-3}},
    ],
)
def test_a_length_in_which_nobody_can_do_anything_is_refused(config):
    with pytest.raises(ConfigError, match=r"should be greater than or equal to 0\.01"):
        server(**config)
    assert server(cycle_length=0.01).cycle_length == 0.01


@pytest.mark.parametrize("strategy", ["", ["fedavg"], 3])
def test_a_strategy_is_a_name_or_an_object(strategy):
    with pytest.raises(ConfigError, match="'strategy': it is the name of a strategy, such as") as error:
        server(strategy=strategy)
    assert "constrained-str" not in str(error.value)


@pytest.mark.parametrize(
    ("low", "high"),
    [("min_workers", "max_workers"), ("min_diffs", "max_diffs"), ("min_diffs", "max_workers")],
)
def test_a_least_above_its_most_is_refused(low, high):
    with pytest.raises(ConfigError, match=rf"^server_config: {low} \(5\) is more than {high} \(3\)$"):
        server(**{low: 5, high: 3})


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("all", None),
        (3, CheckpointsKept(last=3)),
        ({}, CheckpointsKept(last=1)),
        ({"every": 5}, CheckpointsKept(last=1, every=5)),
    ],
)
def test_how_many_checkpoints_are_kept_can_be_said_in_three_ways(said, kept):
    assert server(keep_checkpoints=said).kept == kept


def test_the_best_checkpoint_is_kept_only_where_it_is_known_which_that_is():
    with pytest.raises(ConfigError, match="'best' does not say which that is"):
        server(keep_checkpoints={"best": True})


@given(st.integers(1, 50), st.integers(0, 50))
def test_a_least_up_to_its_most_is_taken(low, more):
    assert server(min_diffs=low, max_diffs=low + more).min_diffs == low


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("min_workers", value) for value in (0, -1, 1.5, "5", True, [1], 2**31)],
        *[("num_cycles", value) for value in (0, float("nan"))],
        *[("do_not_reuse_workers_until_cycle", value) for value in (-1, "0")],
        *[("cycle_length", value) for value in (0, -1, float("inf"), float("nan"), "60", 1e10)],
        *[("minimum_upload_speed", value) for value in (-1, float("inf"), float("nan"), True)],
        *[("pool_selection", value) for value in ("first", None, 1)],
        *[("keep_checkpoints", value) for value in (0, -1, True, "none", 1.5, None, [], {"least": 1})],
        *[("keep_checkpoints", value) for value in ({"last": 0}, {"best": False}, {"every": "2"})],
        *[("keep_diffs", value) for value in (0, -1, "all", 1.5)],
        *[("iterative_plan", value) for value in ("yes", 1)],
        *[("authentication", value) for value in ("token", [], {"secret": 5}, {"pub_key": b"x"})],
    ],
)
def test_a_server_config_with_a_wrong_value_is_refused_by_key(key, value):
    with pytest.raises(ConfigError, match=f"^server_config: '{key}"):
        server(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("name", value) for value in ("", "x" * 201, None, 5)],
        *[("version", value) for value in ("", 1.0)],
        *[("batch_size", value) for value in (0, "64", 64.5, True)],
        *[("max_updates", value) for value in (0, "100")],
        *[("lr", value) for value in (float("nan"), float("inf"), "0.1", True)],
    ],
)
def test_a_client_config_with_a_wrong_value_is_refused_by_key(key, value):
    with pytest.raises(ConfigError, match=f"^client_config: '{key}"):
        client(**{key: value})


@pytest.mark.parametrize(
    "value", [float("nan"), [float("inf")], {"x": float("-inf")}, b"bytes", {1, 2}, object()]
)
def test_a_client_config_that_cannot_travel_as_json_is_refused(value):
    with pytest.raises(ConfigError, match=r"^client_config: it holds what is not JSON"):
        client(own=value)


@pytest.mark.parametrize("key", ["name", "version"])
@pytest.mark.parametrize("odd", ["a\nb", "a\rb", "\x1b[31m", "a\u2028b", "a\u202eb", "a\x00b"])
def test_names_are_printable(key, odd):
    with pytest.raises(ConfigError, match=rf"'{key}': it holds U\+[0-9A-F]{{4}}, which is not printed"):
        parse_client_config(CLIENT | {key: odd})
    assert parse_client_config(CLIENT | {key: "Größe, 模型 🙂"})


@pytest.mark.parametrize("missing", ["name", "version"])
def test_a_client_config_needs_a_name_and_a_version(missing):
    with pytest.raises(ConfigError, match=f"'{missing}': Field required"):
        parse_client_config({key: value for key, value in CLIENT.items() if key != missing})


@pytest.mark.parametrize("parse", [parse_client_config, parse_server_config])
@pytest.mark.parametrize("raw", [None, [], "x", 5])
def test_what_is_no_object_is_refused(parse, raw):
    with pytest.raises(ConfigError, match="_config: Input should be a valid dictionary"):
        parse(raw)


@pytest.mark.parametrize(
    "empty", [{}, {"secret": None}, {"secret": ""}, {"pub_key": ""}, {"endpoint": ""}, {"certificate": False}]
)
def test_an_authentication_that_checks_nothing_is_refused(empty):
    """An empty secret, such as that of a variable that was not set, must not open the model to everybody."""
    with pytest.raises(ConfigError, match="authentication"):
        server(authentication=empty)


def test_a_certificate_is_asked_for_alone_or_beside_a_token():
    alone = server(authentication={"certificate": True}).authentication
    beside = server(authentication={"certificate": True, "secret": SECRET}).authentication
    token = server(authentication={"endpoint": "https://a.example"}).authentication
    assert [(one.asks_token, one.names_workers) for one in (alone, beside, token)] == [
        (False, True),
        (True, True),
        (True, False),
    ]


@pytest.mark.parametrize("key", [{"aud": "a"}, {"iss": ["a"]}, {"leeway": 5}, {"require_exp": False}])
def test_what_only_the_grid_itself_can_check_of_a_token_needs_a_key(key):
    with pytest.raises(ConfigError, match=f"{next(iter(key))} can be checked only with a secret, a pub_key"):
        server(authentication={"endpoint": "https://a.example"} | key)
    for check in ({"secret": SECRET}, {"jwks_url": "https://a.example"}):
        assert server(authentication=check | key).authentication.has_keys
    with pytest.raises(ConfigError, match="can be checked only with a secret"):
        server(authentication={"certificate": True} | key)


@pytest.mark.parametrize(
    "authentication",
    [
        {"secret": [SECRET]},
        {"secret": SECRET, "pub_key": 5},
        {"secret": SECRET, "unknown": SECRET},
        SECRET,
        [SECRET],
    ],
)
def test_an_error_never_repeats_a_secret(authentication):
    with pytest.raises(ConfigError) as error:
        server(authentication=authentication, min_workers=SECRET)

    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_secret_is_not_shown_when_the_configuration_is_printed():
    assert SECRET not in repr(server(authentication={"secret": SECRET}))


@given(
    st.dictionaries(
        st.sampled_from([*ServerConfig.model_fields, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
            ),
        ),
    )
)
def test_any_json_is_read_or_refused_with_a_config_error(raw):
    try:
        config = parse_server_config(json.loads(json.dumps(raw)))
    except ConfigError:
        return
    assert parse_server_config(config.model_dump(exclude_unset=True)) == config
