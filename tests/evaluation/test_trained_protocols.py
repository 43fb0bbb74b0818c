from dataclasses import replace
from pathlib import Path

from mm_graft.evaluation.frozen import begin
from mm_graft.evaluation.trained_protocols import TRAINED_PROTOCOLS

RECIPE = Path(__file__).parents[2] / 'configs' / 'eval' / 'fewshot10_vit-b.py'


def test_augmented_linear_probe_reports_its_head(run):
    result = TRAINED_PROTOCOLS['linear-augmented'](begin(*run))
    assert 0 <= result['top1'] <= 100
    assert result['selected_on'] == 'held-out training images'


def test_depth_is_probed_with_and_without_new_blocks(run):
    cfg, checkpoint, settings = run
    result = TRAINED_PROTOCOLS['probe-depth'](begin(cfg, checkpoint, replace(
        settings, blocks=(2, 4), new_blocks=(0, 1), probe_epochs=2)))
    assert set(result['top1_by_block']) == {'2', '4'}
    assert set(result['top1_by_block']['2']) == {'0', '1'}
    assert result['top1'] == result['top1_by_block']['4']['0']


def test_few_shot_fine_tuning_runs_a_recipe_on_the_listed_images(run, tmp_path):
    cfg, checkpoint, settings = run
    (tmp_path / 'list.txt').write_text('dark/1.png 0\nlight/2.png 1\n')
    result = TRAINED_PROTOCOLS['fewshot-10'](begin(cfg, checkpoint, replace(
        settings, finetune_recipe=str(RECIPE), finetune_epochs=1, finetune_list=str(tmp_path / 'list.txt'))))
    assert result['train_images'] == 2
    assert result['epochs'] == 1
    assert 0 <= result['top1'] <= 100
    assert not result['from_projector']
