"""A Slurm of one node, this machine: started in a folder, stopped with all that it left. It has to be root.

Two partitions, `low` and `urgent`; what waits for `urgent` puts jobs of `low` back into the queue.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=2
ReturnToService=2
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=low Nodes={host} PriorityTier=1 GraceTime=1 DefMemPerCPU=1000 Default=YES
PartitionName=urgent Nodes={host} PriorityTier=2 DefMemPerCPU=1000
"""

# submitit asks sacct, which has no answer where nothing keeps accounts; the controller knows as well.
SACCT = """#!{python} -S
import re, subprocess, sys
print("JobID|State|NodeList")
for job in [given for flag, given in zip(sys.argv, sys.argv[1:]) if flag == "-j"]:
    for line in subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True).stdout.splitlines():
        known = dict(re.findall(r"(\\S+?)=(\\S*)", line))
        array = known.get("ArrayTaskId", "")
        part = f"_[{{array}}]" if "-" in array or "," in array else f"_{{array}}" if array else ""
        print(known.get("ArrayJobId", known["JobId"]) + part, known["JobState"], known["NodeList"], sep="|")
"""


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
    lacking = [program for program in programs if shutil.which(program) is None]
    if lacking:
        return f"{', '.join(lacking)} not found: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "only root can run the daemons of Slurm"


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """Runs Slurm inside the block; the environment in which its commands find it."""
    for name in ("bin", "state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONF.format(host=host, ports=_free_ports(2), folder=folder))
    shim = folder / "bin" / "sacct"
    shim.write_text(SACCT.format(python=sys.executable))
    shim.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = {
        **os.environ,
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
    }
    munge = [
        f"--{what}={folder}/munge.{what.partition('-')[0]}"
        for what in ("socket", "key-file", "pid-file", "seed-file", "log-file")
    ]
    daemons = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]]
    with contextlib.ExitStack() as stack:
        for command in daemons:
            log = stack.enter_context((folder / f"{command[0]}.log").open("w"))
            daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(_stop, daemon)
            time.sleep(1)
        stack.callback(_cancel_all, environment)
        _wait_until_idle(folder, environment)
        yield environment


def show_jobs(environment: dict[str, str]) -> dict[int, dict[str, str]]:
    """Place in its array -> what the controller knows of a job that has run."""
    said = subprocess.run(["scontrol", "show", "job", "-o"], env=environment, capture_output=True, text=True).stdout
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in said.splitlines()]
    return {int(job["ArrayTaskId"]): job for job in jobs if job.get("ArrayTaskId", "").isdigit()}


def _free_ports(num: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until_idle(folder: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = subprocess.run(
            ["sinfo", "-h", "-p", "low", "-o", "%t"], env=environment, capture_output=True, text=True
        )
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
    raise RuntimeError(f"Slurm did not come up within a minute\n{logs}")


def _cancel_all(environment: dict[str, str]) -> None:
    for command in (["scancel", "--full", "--signal=KILL", "--me"], ["scancel", "--me"]):
        subprocess.run(command, env=environment, check=False, timeout=30)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if not subprocess.run(["squeue", "-h"], env=environment, capture_output=True, timeout=30).stdout.strip():
            return
        time.sleep(0.5)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
