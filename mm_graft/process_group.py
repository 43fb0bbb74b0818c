"""The end of a process group."""


def leave_group() -> None:
    """Leave the process group, if there is one, when all of its processes are here.

    One that is open when the interpreter ends can abort the process out of gloo's threads; one that others have left
    before can hang in them.
    """
    from torch import distributed
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
