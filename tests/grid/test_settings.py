import pytest
from pydantic import ValidationError

from fedplan.grid import Settings


def test_everything_has_a_default_in_one_folder(tmp_path):
    settings = Settings(data_dir=tmp_path / "a grid")
    assert settings.database == f"sqlite:///{tmp_path}/a grid/grid.db"
    assert settings.blobs == f"file://{tmp_path}/a%20grid/blobs"
    assert settings.owner_token is None


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FEDPLAN_DATABASE_URL", "postgresql://db/grid")
    monkeypatch.setenv("FEDPLAN_BLOB_URL", "s3://bucket/grid")
    monkeypatch.setenv("FEDPLAN_RETRY_SECONDS", "30")
    monkeypatch.setenv("FEDPLAN_CORS_ORIGINS", '["https://a.example"]')
    settings = Settings()
    assert settings.database == "postgresql://db/grid"
    assert settings.blobs == "s3://bucket/grid"
    assert settings.retry_seconds == 30
    assert settings.cors_origins == ["https://a.example"]


def test_a_setting_that_makes_no_sense_is_refused(monkeypatch):
    monkeypatch.setenv("FEDPLAN_RETRY_SECONDS", "0")
    with pytest.raises(ValidationError):
        Settings()


def test_a_header_for_certificates_needs_a_proxy_that_sets_it():
    proxies = {"trusted_proxies": ["10.0.0.7"]}
    assert Settings(certificate_header="X-Client-Subject", **proxies).certificate_header == "X-Client-Subject"
    with pytest.raises(ValidationError, match="FEDPLAN_TRUSTED_PROXIES"):
        Settings(certificate_header="X-Client-Subject")
    for wrong in ("", "X Client", "X-Client:"):
        with pytest.raises(ValidationError, match="no name of a header"):
            Settings(certificate_header=wrong, **proxies)


def test_the_owner_token_is_not_shown():
    assert "hunter2" not in repr(Settings(owner_token="hunter2"))


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())
