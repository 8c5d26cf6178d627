"""Made-up data for many clients, whose models and inputs differ by two degrees."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fedplan.data.integer import as_integer
from fedplan.errors import DataError

_MOST_SAMPLES = 100_000
"""A log-normal draw has no end: one of 10⁵ clients may draw some hundreds of thousands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Synthetic:
    """Synthetic(α, β): a classification task of which each client has its own version. ::

        fedplan.simulate(model, plans, Synthetic(1, 1), client_config, server_config, population=1000)

    Follows Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (arXiv:1812.06127), section
    5.1, and the code of its authors: client k draws u_k ~ N(0, α) and B_k ~ N(0, β); its labels are
    argmax(W x + b) with the elements of W and b from N(u_k, 1); its inputs are from N(v_k, Σ) with the
    elements of v_k from N(B_k, 1) and Σ diagonal, Σ_jj = j^−1.2. As in that code, α and β are standard
    deviations. A client has 50 samples and e^N(4, 2) more, at most 100,000.

    A client is made when it is asked for, always the same one for a number and a seed.

    Attributes:
        alpha: how much the clients' true models differ, says the paper. u_k is the same for all labels, so
            that no label depends on it; each client has its own W and b whatever α is.
        beta: how much their inputs differ.
        seed: another one makes other clients.
        features: length of an input.
        classes: how many labels there are.
        iid: whether all clients share one true model, and one distribution of inputs: Synthetic-IID. α and β
            have no effect then.

    Raises:
        DataError: a number is out of range.
    """

    alpha: float
    beta: float
    seed: int = 0
    features: int = 60
    classes: int = 10
    iid: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) < np.inf:
                raise DataError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("features", "classes"):
            number = as_integer(getattr(self, name))
            if number is None or number < 1:
                raise DataError(f"{name} must be 1 or more, not {getattr(self, name)!r}")
        if as_integer(self.seed) is None or self.seed < 0:
            raise DataError(f"the seed must be a whole number from 0 on, not {self.seed!r}")

    def __call__(self, client: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The data of a client.

        Args:
            client: its number, from 0 on.

        Returns:
            Inputs, (samples, features) float32, and labels, (samples,) int64.

        Raises:
            DataError: there is no such client.
        """
        if as_integer(client) is None or client < 0:
            raise DataError(f"a client has a number from 0 on, not {client!r}")
        random = np.random.default_rng([self.seed, client])
        samples = 50 + min(int(random.lognormal(4, 2)), _MOST_SAMPLES - 50)
        shared = np.random.default_rng(self._of_all) if self.iid else random
        about = 0.0 if self.iid else random.normal(0, self.alpha)
        weight = shared.normal(about, 1, (self.features, self.classes))
        bias = shared.normal(about, 1, self.classes)
        centre = (
            np.zeros(self.features)
            if self.iid
            else random.normal(random.normal(0, self.beta), 1, self.features)
        )
        spread = np.arange(1, self.features + 1) ** -0.6  # the root of the variance
        x = random.normal(centre, spread, (samples, self.features))
        return x.astype(np.float32), np.argmax(x @ weight + bias, axis=1)

    @property
    def _of_all(self) -> np.random.SeedSequence:
        """What draws the model that all clients share: no client has its numbers.

        Without the key they would be client 0's, for NumPy takes [seed] and [seed, 0] for the same.
        """
        return np.random.SeedSequence(self.seed, spawn_key=(0,))
