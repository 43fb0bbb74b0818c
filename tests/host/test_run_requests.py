"""These fail if MMEngine's Runner keeps what it was asked for in another place."""

import pytest
import torch
from mmengine.runner import Runner

from mm_graft.host.run_requests import asked_seed, asked_to_resume, file_to_load, resume_from
from tests.tiny import classifier, settings


def build(folder, **kwargs):
    (folder / 'run').mkdir(exist_ok=True)
    return Runner(**settings(classifier(), folder / 'run', **kwargs))


@pytest.mark.parametrize(('resume', 'path'), [(False, None), (True, None), (False, 'a.pth'), (True, 'a.pth')])
def test_a_run_knows_what_it_was_asked_for(tmp_path, resume, path):
    runner = build(tmp_path, resume=resume, load_from=path)
    assert (asked_to_resume(runner), file_to_load(runner)) == (resume, path)


@pytest.mark.parametrize('seed', [0, 7, None])
def test_a_run_knows_the_seed_that_it_was_asked_for(tmp_path, seed):
    assert asked_seed(build(tmp_path, randomness=dict(seed=seed))) == seed


def test_it_loads_the_file_that_is_put_in_the_place_of_another(tmp_path):
    first = build(tmp_path)
    first.call_hook('before_run')
    first.optim_wrapper = first.build_optim_wrapper(first.optim_wrapper)
    with torch.no_grad():
        first.model.backbone.cls_token.fill_(7)
    first.save_checkpoint(str(tmp_path), 'seven.pth', save_param_scheduler=False, meta=dict(epoch=3, iter=12))
    runner = build(tmp_path, resume=True, load_from='nowhere.pth')
    resume_from(runner, str(tmp_path / 'seven.pth'))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.load_or_resume()
    assert (runner.model.backbone.cls_token == 7).all()
    assert runner.iter == 12


def test_it_starts_anew_if_there_is_none(tmp_path):
    runner = build(tmp_path, resume=True, load_from='nowhere.pth')
    resume_from(runner, None)
    runner.load_or_resume()
    assert (asked_to_resume(runner), file_to_load(runner), runner.iter) == (False, None, 0)
