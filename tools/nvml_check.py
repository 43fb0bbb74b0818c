"""Look for GPUs without waking the driver; import it before torch in a process that makes copies of itself.

A copy (``os.fork``) of a process in which the CUDA driver is awake cannot use a GPU, and mmengine looks for one when it
is imported.
"""

import os

os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'
