"""Strategies and measures of other packages, by their entry points."""

import pytest

from fedplan.errors import ConfigError
from fedplan.federation import strategy_names, strategy_of
from fedplan.federation.strategies import registry
from fedplan.federation.strategies.registry import broken_plugins
from tests.federation.made import setting, strategy

WORKING = """
from fedplan.federation import StrategyConfig, StrategyKind
from fedplan.federation.strategies.averaging import fedavg

class Config(StrategyConfig):
    name: str = "of a package"
    lr: float = 1.0

KIND = StrategyKind("of a package", Config, fedavg)
"""


def install(folder, name, module, source):
    (folder / f"{module}.py").write_text(source)
    told = folder / f"{name}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[fedplan.strategies]\n{name} = {module}:KIND\n")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two packages, of which one cannot be imported."""
    install(tmp_path, "aa-broken", "fedplan_aa_broken", "import a_module_that_is_not_there")
    install(tmp_path, "zz-working", "fedplan_zz_working", WORKING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    broken_plugins.cache_clear()
    yield
    broken_plugins.cache_clear()


@pytest.mark.usefixtures("packages")
def test_a_package_that_cannot_be_imported_stops_no_model_that_does_not_need_it(caplog):
    assert {"fedavg", "of a package"} <= set(strategy_names())
    assert strategy("fedavg").name == "fedavg"
    strategy("of a package")
    assert "'aa-broken'" in caplog.text


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("server", [{"strategy": "lost"}, {"metrics": ["lost"]}])
def test_a_model_that_may_need_it_is_told_which_it_is_and_why(server):
    with pytest.raises(
        ConfigError,
        match=r"'aa-broken' \(fedplan_aa_broken:KIND\): ModuleNotFoundError: .*a_module_that_is_not_there",
    ):
        strategy_of(setting(server))
