"""`scripts/audit` says "none" of what was compared alone."""

import json

import pytest

from tests.audit import main

SOUND = {"name": "httpx", "version": "1.0", "vulns": []}
VULNERABLE = {"name": "torch", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "rich", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.fixture
def audited(tmp_path):
    def run(*packages):
        (tmp_path / "report.json").write_text(json.dumps({"dependencies": packages}))
        return main([str(tmp_path)])

    return run


def test_packages_without_vulnerabilities_are_fine(audited, capsys):
    assert audited(SOUND, SOUND) == 0
    assert capsys.readouterr().out == "2 packages compared, 0 with vulnerabilities\n"


def test_a_vulnerability_is_told_with_the_version_that_has_it_no_more(audited, capsys):
    assert audited(SOUND, VULNERABLE, UNKNOWN) == 1
    assert "torch 2.0: PYSEC-1, mended in 2.1\n" in capsys.readouterr().out


def test_a_package_that_could_not_be_compared_is_no_success(audited, capsys):
    assert audited(SOUND, UNKNOWN) == 2
    told = capsys.readouterr()
    assert "1 packages compared" in told.out
    assert "not compared: rich: Dependency not found" in told.err


def test_a_service_that_knows_none_has_audited_nothing(audited, capsys):
    assert audited(UNKNOWN, UNKNOWN) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Nothing was audited: the vulnerability service knows none of 2 packages" in told.err


def test_without_a_report_nothing_was_audited(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "Nothing was audited: pip-audit made no report" in capsys.readouterr().err
