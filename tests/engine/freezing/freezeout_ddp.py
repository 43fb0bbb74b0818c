"""One rank of a FreezeOut run over gloo; prints the bytes reduced in each iteration. Run by test_freezeout_hook.py."""

import json
import sys

import torch
from freezeout_runs import Spy, localmim, make_runner
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from torch import distributed as dist

BYTES = []


@MODEL_WRAPPERS.register_module()
class CountingDDP(MMDistributedDataParallel):
    """Notes the size of every bucket that is reduced."""

    def __init__(self, module, device_ids=None, **kwargs):
        super().__init__(module, **kwargs)
        self.register_comm_hook(None, self.count)

    @staticmethod
    def count(state, bucket):
        BYTES.append(bucket.buffer().nbytes)
        future = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True).get_future()
        return future.then(lambda done: done.value()[0])


def main(work_dir, accumulative_counts):
    torch.cuda.set_device = lambda device: None  # the host's launcher calls it on a CPU too
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')
    totals = Spy(lambda runner: sum(BYTES))
    runner = make_runner(
        localmim(), hooks=[totals], work_dir=work_dir, launcher='pytorch', iterations=12 * accumulative_counts,
        schedule=dict(warmup=2 * accumulative_counts), experiment_name='ddp',
        optim_wrapper=dict(accumulative_counts=accumulative_counts), model_wrapper_cfg=dict(type='CountingDDP'),
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='gloo')))
    runner.train()
    weights = torch.cat([param.detach().flatten() for param in runner.model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(both, weights)
    trainable = sum(param.numel() * 4 for param in runner.model.parameters() if param.requires_grad)
    per_iteration = [after - before for before, after in zip([0, *totals.log], totals.log)]
    if dist.get_rank() == 0:
        sys.stdout.write('RESULT ' + json.dumps({'bytes': per_iteration, 'trainable_at_end': trainable,
                                                 'equal': torch.equal(*both)}) + '\n')


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
