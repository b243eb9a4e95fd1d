"""A real Slurm on one machine: a controller and some nodes with counted GPUs, as whatever user runs it.

    python tests/slurm_cluster.py COMMAND ...     runs a command within it, and stops it again

Wants Debian's slurmctld, slurmd, slurm-client and munge. Nothing of it is in the system's folders or on its
ports: configuration, key, sockets and logs are in one folder, which goes when it stops.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "squeue", "srun", "munged", "setpriv")
PACKAGES = "slurmctld slurmd slurm-client munge"
SYSTEM = os.pathsep.join(["/usr/sbin", "/sbin"])  # where the daemons are, and an ordinary user's PATH is not

# No cgroups, so that neither root nor systemd is needed; memory is watched by polling instead
# (OverMemoryKill). config_overrides: the nodes have what is written here, whatever the machine has. The prolog of
# tasks leaves jobs no way into a network, as on many clusters.
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished.txt
MinJobAge=600
KillWait=15
SlurmctldTimeout=10
SlurmdTimeout=8
ReturnToService=2
GresTypes=gpu
TaskProlog={folder}/bin/task-prolog
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=20 State=UP
"""

PROLOG = """#!/bin/sh
for name in HTTP_PROXY HTTPS_PROXY http_proxy https_proxy; do echo "export $name=http://127.0.0.1:9"; done
for name in NO_PROXY no_proxy; do echo "unset $name"; done
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    path = os.environ["PATH"] + os.pathsep + SYSTEM
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


def free_ports(count: int) -> list[int]:
    """Return numbers of ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> object:
    """Return the condition's first true value; a TimeoutError says what was waited for."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)
    return value


@dataclass
class Cluster:
    """A controller and `nodes` nodes, each with so many CPUs, GPUs and megabytes of memory."""

    folder: Path
    nodes: int = 4
    cpus: int = 4
    gpus: int = 2
    memory_mb: int = 16_000
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be a client of this cluster and of no other."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}{SYSTEM}"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Write the configuration, start the daemons, and wait for the nodes to be idle."""
        self._configure()
        self.start_services()
        self.daemon("controller", "slurmctld", "-D", "-f", self.folder / "slurm.conf")
        for number in range(1, self.nodes + 1):
            self.start_node(f"n{number}")
        try:
            wait_for(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D") == str(self.nodes), "idle nodes", 30)
        except TimeoutError as error:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log")))
            raise RuntimeError(f"Slurm does not start: {error}\n{logs}") from None

    def start_services(self) -> None:
        """Start what is wanted before the controller: munge."""
        self.daemon(
            "munge", "munged", "--foreground", "--force", "--key-file", self.folder / "munge.key", "--num-threads", "2",
            "--socket", self.folder / "munge.socket", "--pid-file", self.folder / "munge.pid", "--log-file",
            self.folder / "munge.log", "--seed-file", self.folder / "munge.seed",
        )  # fmt: skip
        wait_for((self.folder / "munge.socket").exists, "munge's socket", 20)

    def start_node(self, name: str) -> None:
        self.daemon(name, "slurmd", "-D", "-N", name, "-f", self.folder / "slurm.conf")

    def kill_node(self, name: str) -> None:
        """End a node at once with all that runs on it, as when its power goes."""
        self.daemons.pop(name).kill()
        for process in self._processes():
            if process.environ().get("SLURMD_NODENAME") == name or f"[{name}]" in process.name():
                process.kill()

    def stop(self) -> None:
        """Cancel all jobs and end the daemons and whatever they left; nothing else is touched."""
        if self.daemons:
            self.ask("scancel", "--full", "--signal=KILL", "--user", getpass.getuser())
            self.ask("scancel", "--user", getpass.getuser())
        for daemon in self.daemons.values():
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons.values():
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()
        for process in self._processes():
            process.kill()

    def _processes(self) -> Iterator[psutil.Process]:
        """Yield the processes that belong to this cluster: those that know it by its configuration."""
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("SLURM_CONF") == str(self.folder / "slurm.conf")
            except psutil.Error:
                continue
            if mine and process.pid != os.getpid():
                yield process

    def configuration(self) -> str:
        """Return slurm.conf."""
        controller, *ports = free_ports(self.nodes + 1)
        host = socket.gethostname().split(".")[0]
        nodes = [
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus}"
            f" RealMemory={self.memory_mb} Gres=gpu:a100:{self.gpus} State=UNKNOWN"
            for number, port in enumerate(ports, 1)
        ]
        values = {"host": host, "controller": controller, "user": getpass.getuser(), "folder": self.folder}
        return CONFIGURATION.format(nodes="\n".join(nodes), **values)

    def _configure(self) -> None:
        devices = self.folder / "dev"
        for folder in (devices, self.folder / "state", self.folder / "bin"):
            folder.mkdir(parents=True)
        for number in range(self.gpus):
            (devices / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "slurm.conf").write_text(self.configuration())
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-{self.nodes}] Name=gpu Type=a100 File={devices}/gpu[0-{self.gpus - 1}]\n"
        )
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        # Snakemake's job step drops SLURM_CONF before its inner srun, which then looks for the system's.
        shim = self.folder / "bin" / "srun"
        real = shutil.which("srun", path=os.environ["PATH"] + os.pathsep + SYSTEM)
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder / "slurm.conf"} exec {real} "$@"\n')
        prolog = self.folder / "bin" / "task-prolog"
        prolog.write_text(PROLOG)
        for script in (shim, prolog):
            script.chmod(0o755)

    def daemon(self, name: str, program: str, *arguments: str | Path) -> None:
        """Start a program that runs until the cluster stops, or this process."""
        log = (self.folder / f"{name}.out.log").open("a")
        # setpriv: a daemon ends with the process that started it, also where that is killed.
        command = ["setpriv", "--pdeathsig", "TERM", program, *map(str, arguments)]
        self.daemons[name] = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands says."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def jobs(self, state: str = "all") -> list[dict[str, str]]:
        """Return the jobs that squeue knows: id, comment (the rule), state, node."""
        lines = self.ask("squeue", "-h", "-t", state, "-o", "%i|%k|%T|%N").splitlines()
        return [dict(zip(("id", "rule", "state", "node"), line.split("|"), strict=True)) for line in lines]


@contextmanager
def running(kind: type[Cluster] = Cluster, **settings: int) -> Iterator[Cluster]:
    """Yield a cluster that runs until the block ends, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        cluster = kind(Path(name), **settings)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def main() -> int:
    if missing():
        print(f"Not installed: {', '.join(missing())} (apt-get install {PACKAGES}).", file=sys.stderr)
        return 1
    with running() as cluster:
        return subprocess.run(sys.argv[1:], env=cluster.environment).returncode


if __name__ == "__main__":
    sys.exit(main())
