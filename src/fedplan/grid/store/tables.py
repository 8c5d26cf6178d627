"""The store's tables. Times are seconds since 1970; blobs are keys of the blob store.

Those by which something is decided (`deadline`, `accepted_at`, `paused_at`, `until`) are of the grid's time,
the others are for people and of the wall's: see `clock.Clock`.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows itself only for INTEGER

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

keys = Table(
    "keys",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Secrets that all replicas of a grid share."""

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    UniqueConstraint("digest"),
)
"""Tokens of people and programs; see `records.ApiToken`. Revoked ones stay."""

processes = Table(
    "processes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("version", String(200), nullable=False),
    Column("client_config", Text, nullable=False),
    Column("server_config", Text, nullable=False),
    Column("layout", Text, nullable=False),
    Column("averaging_plan", String(80)),
    Column("created_at", Double, nullable=False),
    Column("changing", Text),
    Column("frozen", String(80)),
    Column("roles", Text),
    Column("evaluates", Boolean, nullable=False, server_default=false()),
    Column("measured", Text),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("restarted_after", Integer, nullable=False, server_default="0"),
    UniqueConstraint("name", "version"),
    sqlite_autoincrement=True,  # the ids of what was deleted must not come again: see `service.removing`
)
"""FL processes. Configurations, layout, changing, roles and measured are JSON; see `records.Process`.

The configurations are the newest, of this revision. Reports of cycles up to `restarted_after` go into no
later one, since the model's owner had another checkpoint trained on."""

configs = Table(
    "configs",
    metadata,
    Column("process_id", ForeignKey("processes.id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("client_config", Text, nullable=False),
    Column("server_config", Text, nullable=False),
)
"""Configurations of before, with which cycles began. Without `authentication`: that never changes, and its
secret must stand in one place."""

plans = Table(
    "plans",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("process_id", ForeignKey("processes.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("missing", Text),
    UniqueConstraint("process_id", "name"),
)
"""Plans that workers run. `missing` is JSON; see `records.HostedPlan`."""

plan_variants = Table(
    "plan_variants",
    metadata,
    Column("plan_id", ForeignKey("plans.id"), primary_key=True),
    Column("variant", String(20), primary_key=True),
    Column("blob", String(80), nullable=False),
    Column("error", Double),
)
"""The forms in which a Plan is served: list, torchscript, tfjs. `error`: see `records.Variant`."""

protocols = Table(
    "protocols",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("process_id", ForeignKey("processes.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("blob", String(80), nullable=False),
    UniqueConstraint("process_id", "name"),
)
"""Protocols, kept and served as they came."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("process_id", ForeignKey("processes.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("blob", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", String(80)),
    Column("cycle", Integer),
    Column("source", Integer),
    Column("dropped", Boolean, nullable=False, server_default=false()),
    Column("deleted_at", Double),
    UniqueConstraint("process_id", "number"),
    Index(None, "blob"),  # for who looks which blobs are left over
    Index(None, "state"),
    sqlite_autoincrement=True,
)
"""Versions of a model's parameters; the greatest number is `latest`. See `records.Checkpoint`."""

cycles = Table(
    "cycles",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("process_id", ForeignKey("processes.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("phase", String(10), nullable=False),
    Column("checkpoint_id", ForeignKey("checkpoints.id"), nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("deadline", Double),
    Column("occupied", Integer, nullable=False),
    Column("reported", Integer, nullable=False),
    Column("closed_at", Double),
    Column("failure", Text),
    Column("summary", Text),
    Column("task", String(10), nullable=False, server_default="training"),
    Column("evaluators", Integer, nullable=False, server_default="0"),
    Column("damaged", Integer, nullable=False, server_default="0"),
    Column("lease_owner", String(40)),
    Column("lease_counter", BigInteger, nullable=False, server_default="0"),
    Column("stage", String(20)),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("paused_at", Double),
    Column("ordered_end", Boolean),
    Column("places", Integer),
    Column("gone", Integer, nullable=False, server_default="0"),
    Column("judged", Integer, nullable=False, server_default="0"),
    UniqueConstraint("process_id", "number"),
    Index(None, "checkpoint_id"),
    Index(None, "phase", "deadline"),
    Index(None, "process_id", "phase", "number"),
    sqlite_autoincrement=True,
)
"""Rounds of training. For `summary` see `records.CycleSummary`, for the lease `records.Lease`.

`stage` is the name of the present stage of the `Round`.
While a cycle is paused, which is since `paused_at`, its deadline is that of before; `read_cycle` gives none
that comes. `revision`: see `records.Process`. `gone` and `judged`: see `over_selection.DropOut`."""

assignments = Table(
    "assignments",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("cycle_id", ForeignKey("cycles.id"), nullable=False),
    Column("worker_id", String(200), nullable=False),
    Column("identity", String(64), nullable=False),
    Column("key_digest", String(64), nullable=False),
    Column("accepted_at", Double, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("reported_at", Double),
    Column("diff", String(80)),  # the longest key has 80: see `service.diffs`
    Column("counted_in", BigInteger),
    Column("aside", Boolean, nullable=False, server_default=false()),
    Column("grants", Integer, nullable=False, server_default="0"),
    Column("lapses", Integer, nullable=False, server_default="0"),
    Column("declined", Boolean, nullable=False, server_default=false()),
    Column("digest", String(64)),
    Column("replica", String(40)),
    Column("damaged", String(80)),
    UniqueConstraint("cycle_id", "worker_id"),
    UniqueConstraint("key_digest"),
    Index(None, "identity", "cycle_id"),
    Index(None, "counted_in"),
)
"""Places in cycles. The request key itself is not stored, only its digest.

`counted_in` is the cycle that the report went into: with an asynchronous strategy it may be a later one.
`aside`, `grants`, `lapses`, `declined` and `digest`: see `records.Assignment`. `replica` is the one that adds
the report up. `damaged` is what `diff` was when the report was found damaged or missing."""

secure_rounds = Table(
    "secure_rounds",
    metadata,
    Column("cycle_id", ForeignKey("cycles.id"), primary_key=True, autoincrement=False),
    Column("members", Integer),
    Column("announcement", LargeBinary),
    Column("lists", LargeBinary),
    Column("failure", Text),
    Column("exponents", Text),
)
"""What the grid has said in a secure round, so that it says the same after a restart: see docs/privacy.md.

`members` is how many workers are in it, `exponents` is JSON: the scales of the cycle after
it. `failure` is why the round ends without a sum."""

secure_messages = Table(
    "secure_messages",
    metadata,
    Column("assignment_id", ForeignKey("assignments.id"), primary_key=True, autoincrement=False),
    Column("stage", String(20), primary_key=True),
    Column("cycle_id", ForeignKey("cycles.id"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("content", LargeBinary),
    Index(None, "cycle_id", "stage"),
)
"""What workers have sent in the stages of a secure round. A masked report is a blob, named by
`assignments.diff`. The contents go when the cycle ends; digests stay, to know a message that comes again."""

spendings = Table(
    "spendings",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("process_id", ForeignKey("processes.id"), nullable=False),
    Column("cycle", Integer, nullable=False),
    Column("record", Text, nullable=False),
    UniqueConstraint("process_id", "cycle"),
)
"""The ledger of privacy: what cycles have spent, by their numbers; `record` is JSON, see `privacy.Spending`.

Rows are never changed, and refer to no checkpoint: what is spent stays so without it. They are deleted with
their model alone."""

unused_blobs = Table(
    "unused_blobs",
    metadata,
    Column("key", String(80), primary_key=True),
)
"""Blobs of models that were deleted, until they are deleted too."""

replicas = Table(
    "replicas",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("counter", BigInteger, nullable=False),
)
"""The processes that share this store. Each raises its counter while it lives."""

chores = Table(
    "chores",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("owner", String(40)),
    Column("counter", BigInteger, nullable=False),
    Column("due_at", Double, nullable=False),
)
"""What one replica at a time does for all; see `chores.Chore`."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(40)),
    Column("counter", BigInteger, nullable=False),
    Column("position", String(40), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
)
"""Addresses that are told what happens; see `webhooks.Webhook`."""

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("shift", Double, nullable=False),
    Column("jumps", Integer, nullable=False),
)
"""One row: what is to be added to the database's time for the grid's, and how often that time has jumped."""

waiting = Table(
    "waiting",
    metadata,
    Column("process_id", ForeignKey("processes.id"), primary_key=True),
    Column("worker_id", String(200), primary_key=True),
    Column("until", Double, nullable=False),
    Index(None, "process_id", "until"),
)
"""Workers that asked for a place and did not get one, until they are forgotten. In `worker_id` stands the
identity (`auth.Worker`): who comes with several worker ids waits once."""

events = Table(
    "events",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("written_by", BigInteger, nullable=False, server_default="0"),
    Column("at", Double, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("model", String(200)),
    Column("version", String(200)),
    Column("cycle", Integer),
    Column("actor", String(20), nullable=False),
    Column("actor_id", String(200)),
    Column("address", String(100)),
    Column("cause", Text, nullable=False),
    Column("request_id", String(64)),
    Column("details", Text),
    Index(None, "written_by", "id"),
    sqlite_autoincrement=True,  # ids of rows that are deleted are not given again
)
"""What happened; see `events.Happened`. Rows are added, and the oldest deleted, and never changed.

`written_by` is the number of the transaction that added the row, which PostgreSQL fills in; see
`events.Position`."""
