"""Workers with client certificates, through a real nginx: deploy/nginx.conf and lines of docs/operations.md.

nginx connects to the grid from 127.0.0.1, which the grid trusts. Others come from another address.
"""

import re
from pathlib import Path

import httpx
import pytest
import torch
from torch.nn import functional as F

import fedplan
from fedplan.errors import GridResponseError
from fedplan.grid import Settings
from fedplan.tls import showing
from tests.authorities import Authority
from tests.deploy.running_nginx import needs_nginx, nginx
from tests.grid.conftest import serving

pytestmark = needs_nginx

TOKEN = "an owner token of the tests"
HEADER = "X-Client-Subject"
X, Y = torch.ones(4, 3), torch.tensor([0, 1, 0, 1])
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The address at which nginx asks the grid."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("grid"),
        owner_token=TOKEN,
        trusted_proxies=["127.0.0.1"],
        certificate_header=HEADER,
        poll_seconds=0.05,
    )
    with serving(settings) as address:
        yield address


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, authority, grid):
    """The address at which nginx listens, with TLS."""
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o777)
    own = authority.sign("grid", address="127.0.0.1")
    tls = re.search(r"```nginx\nlisten 443 ssl;\n(.*?)```", OPERATIONS, re.DOTALL)[1]
    for name, file in (
        ("grid.pem", own.cert),
        ("grid-key.pem", own.key),
        ("workers-ca.pem", authority.cert),
    ):
        assert tls.count(f" {name};") == 1
        tls = tls.replace(f" {name};", f" {file};")
    with nginx(folder, [grid, grid], tls) as address:
        yield address


@pytest.fixture
def hosted(grid, request):
    """The name of a model that asks for a certificate."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    with fedplan.ModelCentricFLClient(f"http://{grid}", token=TOKEN) as owner:
        owner.host_federated_training(
            model,
            {"training_plan": fedplan.training_plan(model, F.cross_entropy, example=(X, Y))},
            {"name": request.node.name, "version": "1", "batch_size": 4, "lr": 0.5},
            {"max_diffs": 1, "authentication": {"certificate": True}},
        )
    return request.node.name


def authentication(url, name, *, ca=None, source="127.0.0.9", worker=None, **headers):
    """The grid's answer to a worker that would authenticate, from an address of its own."""
    tls = showing(*(worker.cert, worker.key) if worker else (None, None), ca)
    transport = httpx.HTTPTransport(verify=tls, local_address=source)
    with httpx.Client(transport=transport, headers=headers) as http:
        message = {"model_name": name, "model_version": "1"}
        return http.post(f"{url}/model-centric/authenticate", json=message)


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_a_worker_with_a_certificate_trains_a_whole_cycle(proxy, authority, grid, hosted, scheme):
    ann = authority.sign("ann")
    shown = {"client_cert": ann.cert, "client_key": ann.key, "ca": authority.cert}
    done = fedplan.participate(f"{scheme}://{proxy}/grid/", hosted, "1", X, Y, cycles=1, **shown)
    assert done.cycles == 1
    with fedplan.ModelCentricFLClient(f"http://{grid}", token=TOKEN) as owner:
        owner.wait(hosted, "1", checkpoint=2, timeout=30)


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_one_without_is_told_what_is_missing(proxy, authority, hosted, scheme):
    with pytest.raises(GridResponseError, match="needs a client certificate: the proxy has verified none"):
        fedplan.participate(f"{scheme}://{proxy}/grid/", hosted, "1", X, Y, ca=authority.cert)


def test_one_of_another_authority_is_refused_by_the_proxy(proxy, authority, hosted, tmp_path):
    eve = Authority(tmp_path, "other").sign("ann")
    reply = authentication(f"https://{proxy}/grid", hosted, ca=authority.cert, worker=eve)
    assert reply.status_code == 400
    assert "SSL certificate error" in reply.text


def test_a_header_that_a_client_sends_does_not_come_through_the_proxy(proxy, authority, hosted):
    url, forged = f"https://{proxy}/grid", {HEADER: "CN=ann,O=a clinic"}
    assert authentication(url, hosted, ca=authority.cert, **forged).status_code == 401
    bob = authority.sign("bob")
    ids = [
        authentication(url, hosted, ca=authority.cert, worker=bob, **headers).json()["worker_id"]
        for headers in ({}, forged)
    ]
    with httpx.Client(verify=showing(bob.cert, bob.key, authority.cert)) as http:
        for id in ids:  # both are bob's
            asked = {"worker_id": id, "model": hosted, "version": "1"}
            reply = http.post(f"{url}/model-centric/cycle-request", json=asked)
            assert reply.json()["status"] == "accepted"


def test_who_sends_it_to_the_grid_directly_is_not_believed(grid, hosted):
    forged = {HEADER: "CN=ann,O=a clinic", "X-Forwarded-For": "127.0.0.1"}
    reply = authentication(f"http://{grid}", hosted, **forged)
    assert reply.status_code == 401
    assert "did not come through a proxy" in reply.json()["error"]
