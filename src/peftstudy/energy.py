"""The joules that a run takes: by the counters of the processors (RAPL) and of the device (NVML). Absent is no zero.

The processors' counters are of all that runs on them; a process is counted the share of their joules that it has of
their busy time. A device's counter cannot be shared out: where others compute on the device, too, it says nothing of
a run (workflow/decisions/energy.md).
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
STAT = Path("/proc/stat")
SECONDS = 10.0
"""Between two readings, at least."""
MOST_WATTS = 500
"""Of one counter: one that may have started again more than once since it was last read says nothing."""
NO_COUNTER = "no counter"
SHARED = "the device was shared"
UNREAD = "not read often enough"
IN_PART = "not counted from the start"


class Zone:
    """A counter of a part of the processors, in microjoules, which starts again at 0 when it is full.

    Source: the kernel's documentation, power/powercap. Raises OSError or ValueError where it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "energy_uj"
        self.size = int((folder / "max_energy_range_uj").read_text())
        self.last = int(self.path.read_text())

    def joules(self, seconds: float) -> float:
        """Return the joules since the last reading, which was so many seconds ago; NaN where the counter is lost."""
        if seconds > self.size / 1e6 / MOST_WATTS:
            return math.nan
        before, self.last = self.last, int(self.path.read_text())
        return ((self.last - before) + (self.size if self.last < before else 0)) / 1e6


def zones() -> list[Zone]:
    """Return the counters of the processors and of the memory beside them; none where they cannot be read.

    The others count what these do: the cores are in their package, and `psys` and the second interface hold both.
    """
    found = []
    try:
        for folder in sorted(POWERCAP.glob("intel-rapl:*")):
            name = (folder / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                found.append(Zone(folder))
    except (OSError, ValueError):
        return []
    return found


def busy_seconds() -> float:
    """Return how long the machine's cores have been busy, all together. Source: proc(5), /proc/stat."""
    user, nice, system, _idle, _waiting, *rest = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


class Processor:
    """The share of a process in the joules of the processors."""

    def __init__(self) -> None:
        self.zones = zones()
        self.joules = 0.0 if self.zones else math.nan
        self.absent = None if self.zones else NO_COUNTER
        self._clock = self._clocks() if self.zones else ()

    def _clocks(self) -> tuple[float, float, float]:
        return time.monotonic(), time.process_time(), busy_seconds()

    def read(self) -> None:
        """Count what was taken since the last reading."""
        if self.absent:
            return
        before, self._clock = self._clock, self._clocks()
        seconds, own, busy = (now - then for now, then in zip(self._clock, before, strict=True))
        # Whose clocks are read at different moments may seem to have more than all.
        share = min(1.0, own / busy) if busy > 0 else 1.0
        self.joules += share * sum(zone.joules(seconds) for zone in self.zones)
        if math.isnan(self.joules):
            self.absent = UNREAD


class Device:
    """The joules of a device, while no other process computes on it. Source: NVML's reference, device queries."""

    def __init__(self, device: torch.device) -> None:
        self.joules, self.absent = math.nan, NO_COUNTER
        self._handle = ctypes.c_void_p()
        if device.type == "cuda" and self._open(device):
            self._start = self._millijoules()
            self.joules, self.absent = (math.nan, NO_COUNTER) if self._start is None else (0.0, None)

    def _open(self, device: torch.device) -> bool:
        import torch

        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return False
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        return not self._nvml.nvmlInit_v2() and not self._nvml.nvmlDeviceGetHandleByUUID(
            name, ctypes.byref(self._handle)
        )

    def _millijoules(self) -> int | None:
        found = ctypes.c_ulonglong()
        error = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(found))
        return None if error else found.value

    def _processes(self) -> int:
        found = ctypes.c_uint(0)  # room for none: what comes back is their number alone
        self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle, ctypes.byref(found), None)
        return found.value

    def read(self) -> None:
        if self.absent:
            return
        now = self._millijoules()
        self.joules = math.nan if now is None else (now - self._start) / 1e3
        self.absent = NO_COUNTER if now is None else SHARED if self._processes() > 1 else None
        if self.absent:
            self.joules = math.nan


@dataclass
class Meter:
    """What a process takes from the making of its meter on."""

    device: Device
    processor: Processor = field(default_factory=Processor)
    _read: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Read the counters when it is time to: those that start again must be read before they do so twice."""
        if time.monotonic() - self._read >= SECONDS:
            self.joules()

    def joules(self) -> tuple[float, float]:
        """Return the joules of the device and of the processors; NaN where they are not known."""
        self._read = time.monotonic()
        self.device.read()
        self.processor.read()
        return self.device.joules, self.processor.joules


def measured(device: float, processor: float, meter: Meter, on_device: bool) -> dict[str, float | str | None]:
    """Return what a record says of a run's joules; energy_absent: why those of what it ran on are not known."""
    known = {
        "device_joules": None if math.isnan(device) else device,
        "processor_joules": None if math.isnan(processor) else processor,
    }
    ran_on = meter.device if on_device else meter.processor
    is_known = known["device_joules" if on_device else "processor_joules"] is not None
    return known | {"energy_absent": None if is_known else ran_on.absent or IN_PART}
