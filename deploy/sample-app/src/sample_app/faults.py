"""Failure on purpose: how somebody sees by hand what the notifier does about it."""

from dataclasses import dataclass
from enum import StrEnum


class FaultMode(StrEnum):
    """How the webhook endpoint misbehaves."""

    NONE = "none"
    ERROR = "error"
    GONE = "gone"
    HANG = "hang"
    REJECT = "reject"

    @property
    def label(self) -> str:
        """The words on the page."""
        return _LABELS[self]


_LABELS = {
    FaultMode.NONE: "Work as it should",
    FaultMode.ERROR: "Answer 500",
    FaultMode.GONE: "Answer 410 (the notifier disables the endpoint)",
    FaultMode.HANG: "Accept, but answer only after some seconds",
    FaultMode.REJECT: "Reject every signature (401)",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of misbehaving. ``seconds`` is for ``HANG``; ``times`` limits it to so many pushes, None is for ever."""

    mode: FaultMode = FaultMode.NONE
    seconds: float = 20.0
    times: int | None = None


class Faults:
    """The fault that is set now. It lives in memory: a restarted app works as it should."""

    def __init__(self) -> None:
        self.current = Fault()

    def set(self, fault: Fault) -> None:
        """Misbehave like this from now on."""
        self.current = fault

    def take(self) -> Fault:
        """The fault for the next push; counts down where its number is limited."""
        fault = self.current
        if fault.times is not None:
            left = fault.times - 1
            self.current = Fault(fault.mode, fault.seconds, left) if left > 0 else Fault()
        return fault


def parse_fault(form: dict[str, str]) -> Fault:
    """The fault that a form asks for.

    Raises:
        ValueError: names the field that is wrong.
    """
    if form.get("mode") not in set(FaultMode):
        raise ValueError(f"mode must be one of {', '.join(FaultMode)}")
    seconds, times = form.get("seconds", "20"), form.get("times", "")
    if not (seconds.isascii() and seconds.isdigit() and 1 <= int(seconds[:6]) <= 600):
        raise ValueError("seconds must be a number from 1 to 600")
    if times and not (times.isascii() and times.isdigit() and 1 <= int(times[:6]) <= 10_000):
        raise ValueError("times must be empty, or a number from 1 to 10000")
    return Fault(FaultMode(form["mode"]), float(seconds), int(times) if times else None)
