"""A Slurm with accounting: sacct and accounts, by slurmdbd and a MariaDB of its own in the cluster's folder.

Wants Debian's slurmdbd and mariadb-server-core beside what slurm_cluster.py wants. The database listens on a socket
alone, and is no service of the system.
"""

import getpass
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import slurm_cluster
from slurm_cluster import SYSTEM, Cluster, free_ports, wait_for

PROGRAMS = ("slurmdbd", "mariadbd", "sacct", "sacctmgr", "sshare")
PACKAGES = f"{slurm_cluster.PACKAGES} slurmdbd mariadb-server-core"

# associations: a job of an account that its user does not belong to is refused, as is usual.
CONFIGURATION = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
"""
DATABASE_DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
"""
# Nobody else comes near it, and nothing in it is to outlast the tests.
DATABASE = (
    "--no-defaults", "--skip-networking", "--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0",
    "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=900",
)  # fmt: skip
SYSTEM_TABLES = [Path(f"/usr/share/mysql/mysql_system_tables{part}.sql") for part in ("", "_data")]


def missing() -> list[str]:
    """Return the programs that are not installed."""
    path = os.environ["PATH"] + os.pathsep + SYSTEM
    return slurm_cluster.missing() + [name for name in PROGRAMS if not shutil.which(name, path=path)]


@dataclass
class AccountedCluster(Cluster):
    """A cluster that keeps accounts: whoever runs it may use the account `account`, and no other."""

    account: str = "lab"

    def __post_init__(self) -> None:
        [self.port] = free_ports(1)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "MYSQL_UNIX_PORT": str(self.folder / "database.socket")}

    def configuration(self) -> str:
        return super().configuration() + CONFIGURATION.format(port=self.port, folder=self.folder)

    def start_services(self) -> None:
        """Start what is wanted before the controller: munge, the database and its daemon; make the account."""
        super().start_services()
        folder, socket = self.folder / "database", self.folder / "database.socket"
        folder.mkdir()
        command = ["mariadbd", *DATABASE, f"--datadir={folder}", f"--user={getpass.getuser()}"]
        scripts = [path.read_text() for path in SYSTEM_TABLES]
        tables = "\n".join(["create database mysql;", "use mysql;", *scripts])
        subprocess.run([*command, "--bootstrap"], env=self.environment, input=tables, text=True, check=True,
                       capture_output=True)  # fmt: skip
        self.daemon("database", *command, f"--socket={socket}", f"--pid-file={self.folder / 'database.pid'}")
        wait_for(socket.exists, "the database's socket", 30)
        path = self.folder / "slurmdbd.conf"
        path.write_text(DATABASE_DAEMON.format(port=self.port, folder=self.folder, user=getpass.getuser()))
        path.chmod(0o600)
        self.start_accounting()
        for asked in (["cluster", "tests"], ["account", self.account], ["user", getpass.getuser()]):
            account = [f"account={self.account}"] if asked[0] == "user" else []
            self.ask("sacctmgr", "-i", "add", *asked, *account)

    def start_accounting(self) -> None:
        """Start slurmdbd, and wait until it answers."""
        self.daemon("slurmdbd", "slurmdbd", "-D")
        wait_for(lambda: "Cluster" in self.ask("sacctmgr", "show", "cluster"), "slurmdbd", 30)

    def stop_accounting(self) -> None:
        """Let slurmdbd be away, as on days of maintenance."""
        daemon = self.daemons.pop("slurmdbd")
        daemon.terminate()
        daemon.wait(10)

    def accounted(self, job: str, *fields: str) -> list[dict[str, str]]:
        """Return what sacct says of a job and of its steps."""
        lines = self.ask("sacct", "-n", "-P", "--units=K", "-j", job, "-o", ",".join(fields)).splitlines()
        return [dict(zip(fields, line.split("|"), strict=True)) for line in lines]
