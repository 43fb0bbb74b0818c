"""The same random numbers and data order in a resumed run as in an uninterrupted one."""

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mm_graft.host.sample_order import ITERATION, place_samples
from mm_graft.host.train_loops import count_batches_anew, count_batches_from
from mm_graft.random_state import seed_generators
from mm_graft.registry import HOOKS

PLACE = 'place_in_data'


@HOOKS.register_module()
class RNGStateHook(Hook):
    """Derive all randomness from seed and position, and resume at any iteration.

    The host saves no random state, so masks, drop path and augmentations of a resumed run differ from those of an
    uninterrupted one; and it can resume an epoch only at its start. Here

    - all generators of a process are seeded before each iteration by a hash of seed, rank and iteration;
    - those of the data set's transforms are seeded before each sample by a hash of seed, epoch and the sample's global
      position, so that a sample depends neither on the number of workers nor on that of processes;
    - a checkpoint from the middle of an epoch continues with the next batch, without loading the earlier images.

    Together with weights, optimizer, schedules, EMA and scaler, which have their own state, a run that was killed
    anywhere and resumed from its last checkpoint ends with the same bits on a CPU, and on a GPU as far as its kernels
    are deterministic. Seeding costs tens of microseconds per sample and iteration.

    For epoch-based loops, and iteration-based ones with the host's ``InfiniteSampler``. The Runner's seed differs
    between ranks only with ``diff_rank_seed=True``.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Number the samples, and find the position to continue from."""
        seed = [runner.seed]
        broadcast_object_list(seed)  # the main process's, for samples
        loader = runner.train_dataloader
        self.samples = place_samples(loader, seed[0], runner.rank, runner.world_size)
        saved = runner.message_hub.runtime_info.get(PLACE) if runner.iter else None
        self.place = {'epoch': runner.epoch, 'began_at': runner.iter, 'batch_size': loader.batch_sampler.batch_size,
                      'world_size': runner.world_size, 'images': len(loader.dataset),
                      'sampler_seed': getattr(self.samples.sampler, 'seed', None)}
        if saved:
            self._find_place(runner, saved)
        runner.message_hub.update_info(PLACE, self.place)  # from here on checkpoints carry it

    def _find_place(self, runner: Runner, saved: dict) -> None:
        if saved['sampler_seed'] is not None:
            self.place['sampler_seed'] = self.samples.sampler.seed = saved['sampler_seed']
        if saved['epoch'] != runner.epoch or saved['began_at'] == runner.iter:
            return
        self.place['began_at'] = saved['began_at']
        changed = [name for name in ('batch_size', 'world_size', 'images')
                   if saved.get(name, self.place[name]) != self.place[name]]
        if changed or type(runner.train_dataloader.batch_sampler) is not BatchSampler:
            instead = ('resume from the checkpoint of an epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop)
                       else 'start a new run (load_from takes the weights)')
            raise ValueError(
                f'this checkpoint is from the middle of an epoch, with {saved}; it can be resumed with the same batch '
                'size, number of processes and of images, and a plain batch sampler (changed: '
                f'{changed or "the batch sampler"}); otherwise {instead}')

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch, or continue in its middle."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return  # one epoch, in which the host's loop skips what was seen
        if self.place['epoch'] != runner.epoch:
            self.place.update(epoch=runner.epoch, began_at=runner.iter)
        done = runner.iter - self.place['began_at']
        self.samples.begin(runner.epoch, done * self.place['batch_size'])
        if done:
            runner.logger.info(f'continuing in epoch {runner.epoch + 1} after {done} of its iterations')
            count_batches_from(runner.train_loop, done)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seed everything for the coming iteration."""
        seed_generators(runner.seed, ITERATION, runner.iter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Count the batches of the next epoch from 0."""
        count_batches_anew(runner.train_loop)
