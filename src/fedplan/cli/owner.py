"""The model owner's client, as commands use it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedplan.client import ModelCentricFLClient


def owner_client(
    url: str, token: str | None, *, verbose: bool, allow_plain_text: bool
) -> "ModelCentricFLClient":
    """The client that a command's options describe: as `options` has them."""
    from fedplan.client import ModelCentricFLClient

    return ModelCentricFLClient(url, token, verbose=verbose, allow_plain_text=allow_plain_text or None)
