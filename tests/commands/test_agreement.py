import json

import pytest
from mmengine.config import Config
from torch import distributed

from mm_graft.commands.agreement import check_agreement, difference
from mm_graft.process_group import leave_group
from tests.own_process import in_processes

CFG = dict(optim_wrapper=dict(optimizer=dict(lr=0.1)), resume=False, train_dataloader=dict(dataset=dict(data_root='a')))


def process(rank, folder, changes):
    store = distributed.FileStore(str(folder / 'store'), len(changes))
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=len(changes))
    cfg = Config(CFG)
    cfg.merge_from_dict(changes[rank])
    try:
        check_agreement(cfg)
        said = 'agreed'
    except (ValueError, SystemExit) as error:
        said = str(error)
    (folder / f'{rank}.json').write_text(json.dumps(said))
    leave_group()


def together(folder, *changes):
    in_processes(process, folder, changes, processes=len(changes))
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in range(len(changes))]


def test_processes_with_the_same_settings_agree(tmp_path):
    assert together(tmp_path, {}, {'train_dataloader.dataset.data_root': 'b'}) == ['agreed', 'agreed']


@pytest.mark.parametrize(('changes', 'message'), [
    ({'optim_wrapper.optimizer.lr': 0.5}, 'optim_wrapper.optimizer.lr is 0.1 here and 0.5 there'),
    ({'resume': True}, 'resume is False here and True there'),
    ({'train_dataloader.batch_size': 2}, 'train_dataloader.batch_size is not set here and 2 there')])
def test_others_end_and_the_main_process_says_why(tmp_path, changes, message):
    first, second, third = together(tmp_path, {}, {}, changes)
    assert first == f'process 2 was started with other settings than process 0: {message}; start all with one command'
    assert (second, third) == ('1', '1')


def test_one_process_agrees_with_itself():
    check_agreement(Config(CFG))


def test_of_many_differences_the_first_are_named():
    main = {str(number): 'a' for number in range(5)}
    assert difference(main, {}) == '; '.join(f'{key} is a here and not set there' for key in '012') + ' and 2 more'
