"""What a proxy tells of a certificate: whose word counts, and what is missing where there is none."""

import pytest

from fedplan.errors import AuthenticationError
from fedplan.grid.identity.certificates import Certificates
from fedplan.grid.web.proxies import Proxies

HEADER = "X-Client-Subject"
PROXY = "10.0.0.7"
CERTIFICATES = Certificates(HEADER, Proxies([PROXY]))


def told(*values, peer=PROXY, certificates=CERTIFICATES):
    headers = [(b"host", b"grid"), *((HEADER.lower().encode(), value.encode()) for value in values)]
    return certificates.of(peer, headers)


def lack(certificate):
    """Why there is no subject, as a worker reads it."""
    assert certificate.subject is None
    with pytest.raises(AuthenticationError, match=r"^this model needs a client certificate: ") as refused:
        certificate.required()
    return str(refused.value)


@pytest.mark.parametrize("subject", ["CN=worker 7,O=a clinic", "/O=a clinic/CN=worker 7", "2.5.4.3=#0c01"])
def test_a_trusted_proxy_tells_a_subject(subject):
    assert told(subject).required() == subject
    assert told(f" {subject} ").required() == subject


@pytest.mark.parametrize("peer", ["10.0.0.8", "127.0.0.1", "", None])
def test_nobody_else_does(peer):
    assert "did not come through a proxy" in lack(told("CN=worker 7", peer=peer))


def test_the_address_that_a_proxy_forwards_is_not_its_own():
    headers = [(b"x-forwarded-for", PROXY.encode()), (HEADER.lower().encode(), b"CN=worker 7")]
    assert CERTIFICATES.of("203.0.113.5", headers).subject is None


def test_a_header_of_another_name_tells_nothing():
    assert CERTIFICATES.of(PROXY, [(b"x_client_subject", b"CN=worker 7")]).subject is None


def test_without_the_setting_nobody_is_believed():
    without = Certificates(None, Proxies([PROXY]))
    assert "FEDPLAN_CERTIFICATE_HEADER" in lack(told("CN=worker 7", certificates=without))
    assert not without.are_told
    assert CERTIFICATES.are_told


@pytest.mark.parametrize("values", [[], [""], [" "]])
def test_a_worker_without_a_certificate_is_told_how_to_show_one(values):
    assert "--client-cert" in lack(told(*values))


@pytest.mark.parametrize("value", ["{http.request.tls.client.subject}", "(null)", "NONE", "CN=", "a" * 5000])
def test_what_proxies_send_in_place_of_a_subject_is_none(value):
    assert "is no subject" in lack(told(value))


def test_a_proxy_that_adds_to_what_the_client_wrote_is_not_believed():
    assert "several" in lack(told("CN=forged", "CN=worker 7"))
