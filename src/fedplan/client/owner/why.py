"""Why: what a hosted model waits for, and what became of a worker, in words."""

from datetime import datetime

from fedplan.client.transport.answers import shown
from fedplan.wire.messages import WhyReply
from fedplan.wire.why import sentences


class Why:
    """What a hosted model waits for. `ModelCentricFLClient.why` gives it; `print` shows the sentences.

    Attributes:
        told: what the grid told, as numbers and times: the `cycle`, how many reports are `lacking`, how many
            workers are `silent` and since when, when the first place lapses, what was `refused`, and the
            `worker` that was asked for.
    """

    def __init__(self, told: WhyReply) -> None:
        """What a grid told."""
        self.told = told

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def __repr__(self) -> str:
        return f"<Why: {self.sentences[0]}>"

    @property
    def sentences(self) -> list[str]:
        """The same in words; times are those of this machine's time zone."""
        return sentences(self.told, _time, shown)


def _time(moment: datetime, now: datetime) -> str:
    """A time of this machine's time zone, with the date if it is another day."""
    here, today = moment.astimezone(), now.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == today.date() else f"{here:%Y-%m-%d %H:%M}"
