"""Syft: the worker's way to a grid."""

import os
from typing import Any

from fedplan.client.cycle.private import PrivateState, Whose, subject_of
from fedplan.client.job import Job
from fedplan.client.transport.api import GridApi
from fedplan.client.transport.connection import GridConnection, show_log, wants
from fedplan.client.transport.exchange import DEFAULT_RETRY, Retry
from fedplan.client.transport.url import GridUrl
from fedplan.errors import ConfigError
from fedplan.plan import Limits
from fedplan.plan.run.check import DEFAULT_LIMITS
from fedplan.tls import showing

ANSWER_SECONDS = 30.0
"""How long an answer is waited for by default."""


class Syft(GridConnection):
    """Syft client for model-centric federated learning.

    ::

        async with Syft("wss://grid.example") as syft:
            job = syft.new_job("mnist", "1.0.0")

            @job.on("accepted")
            async def train(event):
                training = job.train("training_plan", data=loader)
                diff = await event.model.create_serialized_diff_from_model(await training.wait())
                await job.report(diff)

            await job.request()

    Messages go over HTTP or over a WebSocket, as the URL says; downloads always go over HTTP. Connections are
    opened when they are needed. One client can be used in several event loops, and by blocking calls.

    Differs from the reference: a plain URL of another machine is an error where plain text is not allowed,
    and is not changed into a secure one (which turned ``wss`` into ``wsss``); tokens and keys are never
    logged.

    Attributes:
        url: the grid.
        verbose: see `__init__`.
        peer_config: see `__init__`.
        limits: see `__init__`.
    """

    def __init__(
        self,
        url: str,
        verbose: bool = False,
        peer_config: Any = None,
        *,
        log: bool | None = None,
        allow_plain_text: bool | None = None,
        app: Any = None,
        timeout: float = ANSWER_SECONDS,
        retry: Retry = DEFAULT_RETRY,
        limits: Limits = DEFAULT_LIMITS,
        client_cert: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        """Makes a client; nothing is opened yet.

        Args:
            url: full URL of the grid; http, https, ws or wss.
            verbose: both of the next two, as in the reference.
            log: log what happens, to the logger `fedplan`; by default what `verbose` says.
            allow_plain_text: allow connections to other machines that are not encrypted; by default what
                `verbose` says. To this machine they always are.
            peer_config: kept for the reference, which does not use it either (WebRTC between workers).
            app: an ASGI app, such as `fedplan.grid.create_app(…)`, to call in this process instead of a
                server; `url` is then only a name. Whoever passes it runs its lifespan.
            timeout: seconds to wait for an answer.
            retry: how calls that failed, and can be repeated without harm, are repeated.
            limits: memory and work that a downloaded Plan may use; one that would use more does not run.
            client_cert: a file with the client certificate that the model's authentication asks for, in PEM,
                with those of the authorities between. It is shown over HTTP and WebSocket; by default none.
            client_key: a file with the key of that certificate, in PEM, without a password; by default it is
                in the same file.
            ca: a file with the certificates, in PEM, of the authorities by which the grid's own is checked;
                by default certifi's, or those that the environment variable SSL_CERT_FILE names.

        Raises:
            InsecureUrlError: the URL is plain http or ws, of another machine, and that is not allowed.
            ConfigError: it is no URL of a grid; or a file of certificates cannot be used, or would not be
                used, for the connection has no TLS.
        """
        self.url = url
        self.verbose = verbose
        self.peer_config = peer_config
        self.limits = limits
        grid_url = GridUrl.parse(url)
        self._public = grid_url.public
        logs, plain = wants(verbose, log, allow_plain_text)
        if logs:
            show_log()
        if not plain and app is None:
            grid_url.check_secure()
        if (client_cert or client_key or ca) and (app is not None or not grid_url.secure):
            raise ConfigError(
                "certificates are shown and checked over TLS alone, and this connection has none: use the "
                "https:// or wss:// URL at which the grid's proxy verifies them, or leave them out"
            )
        tls = showing(client_cert, client_key, ca)
        super().__init__(GridApi.connect(grid_url, timeout=timeout, retry=retry, app=app, tls=tls))

    def new_job(
        self,
        model_name: str,
        model_version: str,
        auth_token: str | None = None,
        *,
        state: str | os.PathLike[str] | None = None,
        evaluates: bool = False,
    ) -> Job:
        """Makes a job, which does not ask the grid for anything yet.

        Args:
            model_name: name of the FL process.
            model_version: its version.
            auth_token: the JSON Web Token that the model's authentication asks for.
            state: a folder for the tensors that the worker keeps for itself from cycle to cycle, if the model
                has such; it is made if it is not there. One folder is for one worker, and may hold the state
                of several grids and models. Without, they last as long as the job.
            evaluates: whether it also takes a place in which it only measures the model; see `Job.task`.
        """
        whose = Whose(self._public, str(model_name), str(model_version), subject_of(auth_token))
        private = PrivateState(whose, state)
        return Job(
            self,
            self._grid,
            model_name,
            model_version,
            auth_token,
            private=private,
            limits=self.limits,
            evaluates=evaluates,
        )
