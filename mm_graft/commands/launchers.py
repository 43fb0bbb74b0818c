"""What launchers tell the processes that they start: each its place, and how many they are."""

import os
import subprocess
from typing import NamedTuple


class Variables(NamedTuple):
    """Names of a launcher's environment variables."""

    rank: str
    local_rank: str
    processes: str  #: of the job
    here: str  #: how many of them run on this machine


VARIABLES = {
    'pytorch': Variables('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE'),
    'slurm': Variables('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS', 'SLURM_NTASKS_PER_NODE'),
    'mpi': Variables('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE',
                     'OMPI_COMM_WORLD_LOCAL_SIZE')}


def told(launcher: str | None, what: str) -> str | None:
    """What a launcher says of one of :class:`Variables`, None if nothing."""
    return os.environ.get(getattr(VARIABLES.get(launcher), what, ''))


def slurm_to_torch() -> None:
    """Set PyTorch's environment variables (rank, world size, master) from those of a Slurm step."""
    for theirs, ours in zip(VARIABLES['slurm'][:3], VARIABLES['pytorch']):
        if theirs not in os.environ:
            raise ValueError(f'{theirs} is not in the environment; start with tools/slurm_train.sh, or with srun')
        os.environ[ours] = os.environ[theirs]
    if 'MASTER_ADDR' not in os.environ:
        nodes = subprocess.run(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        os.environ['MASTER_ADDR'] = nodes.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
