import io
import tarfile
from itertools import pairwise

import numpy as np
import pytest
from mmengine.dataset import RepeatDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

from mm_graft.commands.configs import load_config
from mm_graft.commands.running import build_runner
from mm_graft.datasets import tagged_shards
from mm_graft.datasets.tagged_shards import ShardSampler
from mm_graft.host.sample_order import place_samples
from tests.docs.small import small_config
from tests.engine.reliability.test_rng_state_hook import Net, Stop, StopAfter

SIZES = (3, 1, 5, 0, 2)  # samples of each shard
PIPELINE = [dict(type='mm_graft.TolerantLoadImageFromFile'), dict(type='PackInputs')]


@pytest.fixture
def root(tmp_path):
    """Shards of other lengths; image n is n gray, of class n modulo 2, and the second of each shard has no label."""
    number = 0
    for shard, size in enumerate(SIZES):
        with tarfile.open(tmp_path / f'{shard}.tar', 'w') as tar:
            for row in range(size):
                picture = io.BytesIO()
                Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(picture, 'png')
                text = b'nothing' if row == 1 else f'#{("dog", "sea")[number % 2]}'.encode()
                for ending, content in (('png', picture.getvalue()), ('txt', text)):
                    member = tarfile.TarInfo(f'{number:05}.{ending}')
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                number += 1
    (tmp_path / 'tags.txt').write_text('dog\nsea\n')
    return tmp_path


def build(root, **kwargs):
    settings = dict(type='mm_graft.TaggedShards', shards=f'{root}/{{0..4}}.tar', data_root=str(root),
                    vocabulary='tags.txt', cache_dir=str(root / 'cache'), pipeline=PIPELINE)
    return DATASETS.build({**settings, **kwargs})


def test_an_image_comes_out_of_its_shard_with_its_labels(root):
    data = build(root)
    assert len(data) == 8
    assert data.shard_starts.tolist() == [0, 2, 3, 7, 7, 8]
    assert [int(data[index]['inputs'].flatten()[0]) for index in range(8)] == [0, 2, 3, 4, 6, 7, 8, 9]
    assert [data.get_cat_ids(index) for index in range(8)] == [[0], [0], [1], [0], [0], [1], [0], [1]]
    assert data[-1]['data_samples'].gt_label.tolist() == [1]
    assert data.counts['unlabeled'] + data.counts['untagged'] == 3


def test_a_choice_of_rows_or_a_wrapper_has_no_whole_shards_to_deal_out(root):
    for data in (build(root, indices=5), RepeatDataset(build(root), 2)):
        with pytest.raises(ValueError, match=r'deals out whole shards.*DefaultSampler'):
            ShardSampler(data)


def test_the_index_is_kept_and_made_anew_for_other_shards(root, monkeypatch):
    build(root)
    monkeypatch.setattr(tagged_shards.IndexBuilder, 'add', lambda *args: pytest.fail('read again'))
    assert len(build(root)) == 8
    with pytest.raises(pytest.fail.Exception, match='read again'):
        build(root, shards=f'{root}/{{0..2}}.tar')


def in_world(monkeypatch, starts, world, **kwargs):
    data = type('Data', (), {'shard_starts': np.array(starts), '__len__': lambda self: starts[-1]})()
    samplers = []
    for rank in range(world):
        monkeypatch.setattr(tagged_shards, 'get_dist_info', lambda rank=rank: (rank, world))
        samplers.append(ShardSampler(data, **{'seed': 5, **kwargs}))
    return samplers


def test_a_shard_goes_to_the_process_with_the_fewest_images(monkeypatch):
    samplers = in_world(monkeypatch, [0, 5, 6, 6, 7, 9, 13], 2)  # shards of 5, 1, 1, 2 and 4 images
    assert [sampler.own_shards([0, 1, 2, 3, 4]) for sampler in samplers] == [[0], [1, 2, 3, 4]]
    assert [sampler.own_shards([4, 3, 2, 1, 0]) for sampler in samplers] == [[4, 0], [3, 2, 1]]


def test_where_a_process_has_fewer_images_than_its_share_the_first_ones_come_again(monkeypatch):
    samplers = in_world(monkeypatch, [0, 9, 10], 2, mixed=1)
    shares = sorted(map(list, samplers), key=lambda share: len(set(share)))
    assert shares[0] == [9] * 5
    assert len(set(shares[1])) == 5


def test_seed_and_epoch_are_added_and_without_a_seed_all_processes_take_a_common_one(monkeypatch):
    starts = list(range(0, 101, 10))
    first, = in_world(monkeypatch, starts, 1)
    monkeypatch.setattr(tagged_shards, 'sync_random_seed', lambda: 3)
    other, = in_world(monkeypatch, starts, 1, seed=None)
    assert list(first) != list(other)
    other.set_epoch(2)
    assert list(first) == list(other)


@pytest.mark.parametrize('change', [
    dict(text_key='text'), dict(vocabulary='other.txt'), dict(vocabulary=None, synsets='tags.txt')])
def test_other_settings_have_an_index_of_their_own(root, change):
    (root / 'tags.txt').write_text('dog sea\nsea dog\n')
    (root / 'other.txt').write_text('sea dog\ndog sea\n')
    folders = [build(root, lazy_init=True, **settings).index_folder(root / (settings.get('vocabulary') or 'tags.txt'))
               for settings in ({}, change)]
    assert folders[0] != folders[1]


def shards_of(images, starts):
    return {next(shard for shard, (first, last) in enumerate(pairwise(starts)) if first <= image < last)
            for image in images}


@pytest.mark.parametrize('world', [1, 2, 3])
def test_processes_have_shards_of_their_own_and_equally_many_images(world, monkeypatch):
    starts = [0, 40, 45, 45, 60, 61, 90, 100, 107]
    samplers = in_world(monkeypatch, starts, world, mixed=2)
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shares = [list(sampler) for sampler in samplers]
        assert {len(share) for share in shares} == {len(sampler) for sampler in samplers} == {-(-107 // world)}
        assert shares == [list(sampler) for sampler in samplers]
        seen = [shards_of(share, starts) for share in shares]
        assert sum(map(len, seen)) == len(set().union(*seen))
        if world == 1:
            assert sorted(shares[0]) == list(range(107))


def test_an_epoch_has_an_order_of_its_own_in_which_few_shards_are_mixed(monkeypatch):
    starts = list(range(0, 101, 10))
    sampler = in_world(monkeypatch, starts, 1, mixed=2)[0]
    first = list(sampler)
    assert all(len(shards_of(first[i:i + 20], starts)) == 2 for i in range(0, 100, 20))
    assert first[:20] != sorted(first[:20])
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_fewer_shards_than_processes_are_refused(monkeypatch):
    with pytest.raises(ValueError, match='2 shards with images cannot be dealt to 3 processes'):
        in_world(monkeypatch, [0, 4, 4, 9], 3)
    with pytest.raises(ValueError, match='mixed=0'):
        in_world(monkeypatch, [0, 4], 1, mixed=0)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_pass_goes_on_in_its_middle_with_the_same_images(root, workers):
    data = build(root)

    def images(first):
        loader = DataLoader(data, batch_size=2, sampler=ShardSampler(data, mixed=2, seed=1), num_workers=workers,
                            collate_fn=lambda batch: [int(sample['inputs'].flatten()[0]) for sample in batch])
        place_samples(loader, 7, 0, 1).begin(0, first)
        return list(loader)

    whole = images(0)
    assert images(4) == whole[2:]
    assert sorted(value for batch in whole for value in batch) == [0, 2, 3, 4, 6, 7, 8, 9]


def run(folder, root, stop=None, resume=None, **shards):
    """Pixels of each batch of two epochs of a run."""
    seen = []

    class Watch(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append((runner.iter, data_batch['inputs'].flatten(1)[:, 0].tolist()))

    data = dict(type='mm_graft.TaggedShards', shards=f'{root}/{{0..4}}.tar', data_root=str(root), vocabulary='tags.txt',
                cache_dir=str(root / 'cache'), pipeline=PIPELINE)
    runner = Runner(
        model=Net(), work_dir=str(folder), experiment_name=f'{folder}{stop}{resume}{shards}', resume=bool(resume),
        train_dataloader=dict(batch_size=2, dataset={**data, **shards}, num_workers=1,
                              sampler=dict(type='mm_graft.ShardSampler', mixed=2),
                              collate_fn=dict(type='default_collate')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), train_cfg=dict(by_epoch=True, max_epochs=2),
        load_from=resume, randomness=dict(seed=3), log_level='ERROR', default_scope='mmpretrain', default_hooks=dict(
            logger=None, checkpoint=dict(type='mm_graft.SafeCheckpointHook'), rng=dict(type='mm_graft.RNGStateHook')))
    runner.register_hook(Watch())
    if stop:
        runner.register_hook(StopAfter(stop))
        with pytest.raises(Stop):
            runner.train()
    else:
        runner.train()
    return dict(seen)


def test_a_run_resumed_within_an_epoch_sees_what_an_uninterrupted_one_sees(root, tmp_path):
    whole = run(tmp_path / 'whole', root)
    run(tmp_path / 'parts', root, stop=6)
    resumed = run(tmp_path / 'parts', root, resume=str(tmp_path / 'parts' / 'stopped.pth'))
    assert resumed == {step: whole[step] for step in (6, 7)}


def test_a_run_whose_shards_became_others_is_not_resumed_within_an_epoch(root, tmp_path):
    run(tmp_path / 'parts', root, stop=6)
    with pytest.raises(ValueError, match=r"changed: \['images'\]"):
        run(tmp_path / 'parts', root, resume=str(tmp_path / 'parts' / 'stopped.pth'), shards=f'{root}/{{0..2}}.tar')


def test_the_config_of_shards_trains_an_epoch_on_every_labeled_image_of_the_tar_files(root, tmp_path):
    (root / 'synsets.txt').write_text('n1 dog\nn2 sea\n')
    cfg = small_config(load_config('wsp/vit-b_mae2wsp_shards', {
        'shards': f'{root}/{{0..4}}.tar', 'data_root': str(root), 'cache_dir': str(root / 'cache'),
        'model.head.num_classes': 2, 'default_hooks.init.checkpoint': None, 'work_dir': str(tmp_path / 'run')}))
    runner = build_runner(cfg)
    before = runner.model.head.fc.weight.detach().clone()
    seen = []

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.extend((sample.sample_idx, sample.gt_label.tolist()) for sample in data_batch['data_samples'])
            assert outputs['loss'].isfinite()

    runner.register_hook(Watch())
    runner.train()
    assert sorted(seen) == list(enumerate([[0], [0], [1], [0], [0], [1], [0], [1]]))
    assert (runner.model.head.fc.weight != before).all(1).any()
