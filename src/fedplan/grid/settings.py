"""The grid's settings: one table, read from the environment (prefix ``FEDPLAN_``) or given in code."""

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fedplan.grid.addresses import is_below, origin_of


def _list(value: Any) -> Any:
    """What a variable holds, where a list is needed; for pydantic broken JSON is no validation error."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('it is not JSON; a list of texts is needed, such as ["a", "b"]') from None


def _origins(values: list[str]) -> list[str]:
    if any(value != "*" and origin_of(value) != value for value in values):
        raise ValueError('an origin is "*", or as "https://page.example": no path, no slash at the end')
    return values


def _addresses(values: list[str]) -> list[str]:
    if not all(is_below(value, [value]) for value in values):
        raise ValueError("an address is an http or https URL, such as https://auth.example/keys")
    return values


def _header(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError("it is no name of a header; such as X-Client-Subject is")
    return name


def _networks(values: list[str]) -> list[str]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(
                f"{value!r} is no address and no network; such as 10.0.0.7 or 10.0.0.0/8 are"
            ) from None
    return values


Texts = Annotated[list[str], NoDecode, BeforeValidator(_list)]


class Settings(BaseSettings):
    """How a grid process runs. Each setting is an environment variable: ``FEDPLAN_DATA_DIR`` and so on."""

    model_config = SettingsConfigDict(env_prefix="FEDPLAN_", extra="ignore", frozen=True)

    data_dir: Path = Field(
        default=Path("fedplan-data"),
        description="Folder of the default database and blobs; made when missing.",
    )
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL, SQLite or PostgreSQL. Default: `grid.db` in `data_dir`."
    )
    blob_url: str | None = Field(
        default=None,
        description="Where models, Plans and diffs are kept: `file://`, `s3://`, `gs://`, `az://`, "
        "`memory://`. Default: `blobs` in `data_dir`.",
    )
    owner_token: SecretStr | None = Field(
        default=None,
        description="Token that opens hosting, status, checkpoints and the dashboard. Default: API tokens "
        "(`fedplan token`) do; where none was ever made, anybody may use them.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="Key under which secrets in the database are encrypted, at least 32 characters. Several, "
        "separated by commas: the first encrypts, all decrypt. Default: `secret_key_file`.",
    )
    secret_key_file: Path | None = Field(
        default=None,
        description="File with that key, which only its owner may read (0600). Default: `grid.key` in "
        "`data_dir`, made when missing; none with a `database_url`.",
    )
    insecure: bool = Field(
        default=False,
        description="Start without an owner token where other machines reach the grid too: whoever does may "
        "host models and retrieve them.",
    )
    allowed_hosts: Texts = Field(
        default=[],
        description="Names by which the grid may be called (the Host of a request); JSON. Names of this "
        "machine for itself always may. Default: all where there is an owner token; without one no others, "
        "so that no web page gets in by a name of its own (DNS rebinding).",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate in PEM, with those of the authorities between; the grid then speaks TLS "
        "itself.",
    )
    tls_key: Path | None = Field(default=None, description="Private key of the certificate, in PEM.")
    max_message_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        description="Largest HTTP body and WebSocket message that is read. A model travels at 2 (hosting) or "
        "4/3 (report) times its size.",
    )
    max_pending_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024,
        description="Bytes of messages that are held at once, over all connections and all of `--processes`; "
        "beyond, the grid answers that it is overloaded. While it is answered a message takes about three "
        "times its size.",
    )
    remembered_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        description="Bytes of models and Plans kept in memory, plain and compressed, since they are sent "
        "again and again. One that takes more than a quarter of it is read from its blob each time; one that "
        "takes more than a sixteenth is sent plain. `--processes N` share it: each has an Nth.",
    )
    sums_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=0,
        description="Bytes of sums of diffs kept in memory, one for each open cycle with reports: 16 bytes "
        "for each number of its model that is not frozen, twice as many where only some of its reports tell "
        "their samples, and as many while a sum is written for other replicas or read from them. A cycle "
        "that finds no room is averaged from the blobs when it closes. `--processes N` share it.",
    )
    averaging_bytes: int | None = Field(
        default=None,
        ge=1024 * 1024,
        description="Memory that an averaging Plan of a model's owner may take, in a process of its own; one "
        "that is estimated to need more than half of it is not hosted. Two run at once. Default: a quarter "
        "of the machine's memory. `--processes N` share it: a Plan may take an Nth.",
    )
    averaging_seconds: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="How long an averaging Plan may compute in one cycle; one that is estimated to need more "
        "is not hosted.",
    )
    body_pause_seconds: float = Field(
        default=60.0, gt=0, description="After how long without a byte of it a body is given up."
    )
    head_seconds: float = Field(
        default=30.0, gt=0, description="How long the head of a request may take to come."
    )
    stall_seconds: float = Field(
        default=60.0,
        gt=0,
        description="After how long a peer that takes nothing of what is sent to it is cut off.",
    )
    max_connections: int = Field(
        default=10_000,
        ge=1,
        description="Connections at once, over all of `--processes`; those beyond are turned away. Fewer "
        "where the operating system allows a process fewer open files.",
    )
    max_connections_per_address: int = Field(
        default=1_000,
        ge=1,
        description="Connections at once from one address, over all of `--processes`; those of "
        "`trusted_proxies` are not counted so.",
    )
    requests_per_address: int = Field(
        default=200,
        ge=0,
        description="Requests a second from one address, messages over WebSockets included; ten times as "
        "many at once from one that was quiet. Those beyond are answered with 429. 0: they are not counted. "
        "Each process of the grid counts for itself.",
    )
    trusted_proxies: Annotated[Texts, AfterValidator(_networks)] = Field(
        default=[],
        description="Proxies whose `X-Forwarded-For` is believed, by address or network, such as "
        "`10.0.0.0/8`; JSON. Default: none, so that all who come through one count as one address.",
    )
    certificate_header: Annotated[str, AfterValidator(_header)] | None = Field(
        default=None,
        description="Header in which `trusted_proxies` tell the subject of a client certificate that they "
        "have verified, such as `X-Client-Subject`, for models that ask for one. The proxy must set it in "
        "each request. Default: none, so that no model can ask for one.",
    )
    retry_seconds: float = Field(
        default=5.0,
        gt=0,
        description="After how long a rejected worker may ask again, in the mean, when nothing better is "
        "known.",
    )
    retries_per_second: float = Field(
        default=100.0,
        gt=0,
        description="How many of a model's rejected workers are to ask again in a second, over all replicas. "
        "Where more wait, they are told later times, spread over up to ten minutes.",
    )
    poll_seconds: float = Field(
        default=1.0,
        gt=0,
        description="How often the store is searched for cycles that other replicas left to close.",
    )
    lease_seconds: float = Field(
        default=10.0,
        gt=0,
        description="After how long without a sign of a replica others close the cycles that it was closing. "
        "Three times in it each gives such a sign, and looks at the database's clock.",
    )
    keep_diffs: bool = Field(
        default=False,
        description="Keep each worker's diff after its cycle has ended, for models that do not say it "
        "themselves (`keep_diffs`). They may tell about its data.",
    )
    sweep_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="How often one of the replicas deletes what nothing needs any more: checkpoints and "
        "diffs that models do not keep, and blobs that no row names.",
    )
    orphan_seconds: float = Field(
        default=86_400.0,
        gt=0,
        description="How old a blob must be that no row names, before it is deleted. Rows are written after "
        "their blobs, in seconds.",
    )
    free_disk_bytes: int = Field(
        default=128 * 1024 * 1024,
        ge=0,
        description="With fewer free bytes on a disk that it writes to, `/readyz` says that the grid is not "
        "ready.",
    )
    keep_events: int = Field(
        default=1_000_000,
        ge=1,
        description="How many events are kept at most: the oldest are deleted. One takes about 300 bytes.",
    )
    keep_events_days: float = Field(
        default=90.0, gt=0, le=36_500, description="For how many days events are kept."
    )
    max_event_streams: int = Field(
        default=50,
        ge=0,
        description="Listeners to events (`fedplan events --follow`) at once, of each process of the grid.",
    )
    webhooks: Annotated[Texts, AfterValidator(_addresses)] = Field(
        default=[],
        description="Addresses to which each event is posted, signed, such as `https://ops.example/fedplan`; "
        "JSON. Default: none.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="What `webhooks` are signed with (HMAC-SHA256), at least 32 characters; whoever gets "
        "them needs it too.",
    )
    cors_origins: Annotated[Texts, AfterValidator(_origins)] = Field(
        default=["*"],
        description="Web pages, by origin, whose scripts may use this grid; JSON. Default: all.",
    )
    auth_endpoints: Annotated[Texts, AfterValidator(_addresses)] = Field(
        default=[],
        description="How the addresses begin that models may have the grid ask about workers' tokens "
        "(`endpoint`, `jwks_url`), such as `https://auth.example/keys`; JSON. Default: none.",
    )
    worker_id_seconds: float = Field(
        default=7 * 86_400.0,
        gt=0,
        description="For how long a worker may ask for places before it has to authenticate again; less "
        "where its token holds for less.",
    )
    token_check_seconds: float = Field(
        default=5.0, gt=0, description="How long a model's authentication endpoint may take to judge a token."
    )

    @field_validator("certificate_header")
    @classmethod
    def _has_who_tells(cls, name: str | None, others: ValidationInfo) -> str | None:
        if name is not None and not others.data.get("trusted_proxies", True):
            raise ValueError(
                "it counts only in requests from FEDPLAN_TRUSTED_PROXIES, and there are none: name the "
                "proxy's address there"
            )
        return name

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'grid.db'}"

    @property
    def blobs(self) -> str:
        """The blob store's URL."""
        return self.blob_url or (self.data_dir.absolute() / "blobs").as_uri()

    @property
    def scratch(self) -> Path:
        """Folder for files that are needed while a cycle closes."""
        return self.data_dir.absolute() / "scratch"
