"""The config that continues from public weights, with each row of its tables of overrides."""

import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mm_graft.checkpoints import load_backbone
from tests.shrink import TINY_WIDTH
from tests.test_configs import build, make_batch
from tests.test_overrides import ROWS, changed

ROOT = Path(__file__).parents[1]
LEAF = ROOT / 'configs' / 'continue' / 'vit_own-images.py'
MINE = [row for row in ROWS if row.place == 'continue']
WEIGHTS = [row for row in MINE if 'stages' not in row.stated and 'stage_lr_mult' not in row.override]
SMALL = {'embed_dim': TINY_WIDTH, 'num_heads': 2}


def test_every_family_that_is_asked_for_has_a_row():
    names = [changed(row.config, row.override.split()).model.backbone.model_name for row in WEIGHTS]
    for family, sizes in {'dinov2': 'small base large', 'dinov3': 'small base large', 'clip': 'base', 'siglip': 'base',
                          'patch16_224': 'base large'}.items():
        assert {name.split('_')[1] for name in names if family in name} >= set(sizes.split())


@pytest.mark.parametrize('row', WEIGHTS, ids=lambda row: row.override.split('=')[1].split()[0] if row.override else '')
def test_the_weights_fit_and_a_step_teaches_the_upper_two_thirds(row, tmp_path):
    cfg = changed(row.config, row.override.split())
    name = cfg.model.backbone.model_name
    with torch.device('meta'):
        full = timm.create_model(name, num_classes=0)
    assert full.embed_dim == cfg.model.neck.in_channels
    known = timm.get_pretrained_cfg(name)
    if not name.endswith('patch16_224') or 'clip' in name or 'siglip' in name:  # timm's default there is not MAE's
        for part in ('mean', 'std'):
            given = [value / 255 for value in cfg.data_preprocessor[part]]
            assert given == pytest.approx(getattr(known, part), abs=1e-4)
    cfg, model, optim_wrapper = build(cfg)
    torch.manual_seed(1)
    public = timm.create_model(name, **SMALL)  # at the size of image that the weights are for
    torch.save(public.state_dict(), tmp_path / 'public.pth')
    load_backbone(model.backbone, tmp_path / 'public.pth', resize=True)
    data = model.data_preprocessor(make_batch(cfg, model), True)
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    blocks = model.backbone.timm_model.blocks
    third = len(blocks) // 3
    reached = [any(parameter.grad is not None for parameter in block.parameters()) for block in blocks]
    assert reached == [False] * third + [True] * 2 * third
    rates = {group['stage']: group['lr'] for group in optim_wrapper.optimizer.param_groups}
    assert rates == pytest.approx({2: 5e-6, 3: 5e-5})


def test_the_anchored_file_of_the_page_reads_as_it_stands(tmp_path):
    page = (ROOT / 'configs' / 'continue' / 'README.md').read_text()
    text = re.search(r'```python\n(.*?)```', page, re.S)[1]
    (tmp_path / 'anchored.py').write_text(text.replace('vit_own-images.py', str(LEAF)))
    cfg = Config.fromfile(tmp_path / 'anchored.py')
    assert cfg.default_hooks.init.checkpoint == cfg.custom_hooks[1].checkpoint == 'dinov2_vits14_pretrain.pth'
    assert cfg.default_hooks.init.resize
    assert [hook.type for hook in cfg.custom_hooks] == ['mm_graft.StageLRLoggerHook', 'mm_graft.GramAnchor']


def test_class_tokens_can_be_left_for_the_mean_of_the_patches():
    cfg, model, _ = build(changed(LEAF, ['out_type=avg_featmap']))
    images = torch.randn(2, 3, 224, 224)
    model.eval()
    backbone = MODELS.build({**cfg.model.backbone, **SMALL, 'out_type': 'featmap'})
    backbone.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(model.backbone(images)[-1], backbone.eval()(images)[-1].mean((2, 3)))
