"""The key `authentication` of a server_config."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedplan.wire.amounts import Number

Text = Annotated[str, Field(min_length=1)]


class AuthenticationConfig(BaseModel):
    """How workers prove that they may train: by a JSON Web Token, which the keys given here check, by a
    client certificate, which a proxy before the grid checks, or by both."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    secret: Text | None = Field(default=None, repr=False)
    """Shared secret of HS256 tokens."""
    pub_key: Text | None = None
    """PEM public key of tokens by RS256 (RSA), ES256 (P-256) or EdDSA (Ed25519)."""
    jwks_url: Text | None = None
    """URL of a set of such keys (JWKS), fetched when it is needed; the grid's operator must allow it."""
    aud: Text | list[Text] | None = None
    """Audiences of which a token must name one; a token that names some is refused when absent."""
    iss: Text | list[Text] | None = None
    """Issuers of which a token must name one; not looked at when absent."""
    leeway: Annotated[Number, Field(ge=0, le=3600)] = 30.0
    """Seconds by which the clocks of who signs and of the grid may differ."""
    require_exp: bool = True
    """Whether a token must say until when it holds."""
    endpoint: Text | None = None
    """URL to which the token is posted as `{"auth_token": …}` after the other checks; all but 2xx refuses.
    The grid's operator must allow it."""
    certificate: bool = False
    """Whether a worker needs a client certificate, beside a token if one is asked for. Its subject is the
    worker's identity then, and not that of the token."""

    @model_validator(mode="after")
    def _checks_something(self) -> Self:
        if not self.asks_token and not self.certificate:
            raise ValueError(
                "it needs a secret, a pub_key, a jwks_url or an endpoint, or 'certificate': true; leave it "
                "out to let anybody train"
            )
        unused = {"aud", "iss", "leeway", "require_exp"} & self.model_fields_set
        if unused and not self.has_keys:
            raise ValueError(
                f"{' and '.join(sorted(unused))} can be checked only with a secret, a pub_key or a jwks_url"
            )
        return self

    @property
    def has_keys(self) -> bool:
        """Whether the grid itself checks tokens."""
        return any(key is not None for key in (self.secret, self.pub_key, self.jwks_url))

    @property
    def asks_token(self) -> bool:
        """Whether a worker must show a token."""
        return self.has_keys or self.endpoint is not None

    @property
    def names_workers(self) -> bool:
        """Whether what is checked can say who a worker is: the subject of a token or of a certificate."""
        return self.has_keys or self.certificate
