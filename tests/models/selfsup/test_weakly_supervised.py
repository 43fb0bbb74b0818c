import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from mm_graft.checkpoints import CheckpointError
from mm_graft.models.data_preprocessors.channels import ChannelPreprocessor
from tests.tiny import VIT, mae_file, start_from

TAGS = [[0], [1, 4], [2, 3, 0]]


NUMBERS = dict(mean=[127.5] * 3, std=[64.0] * 3)


def build(**kwargs):
    model = MODELS.build(dict(
        type='mm_graft.WeaklySupervised', **{'data_preprocessor': {**NUMBERS}, **kwargs},
        backbone=dict(type='mm_graft.GraftViT', stop_grad_conv1=False, **VIT),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=16, loss=dict(type='mm_graft.TagCrossEntropyLoss'))))
    model.init_weights()
    return model.train()


def batch(tags=TAGS):
    images = torch.randint(0, 256, (len(tags), 3, 32, 32), dtype=torch.uint8)
    return {'inputs': images, 'data_samples': [DataSample().set_gt_label(row) for row in tags]}


def losses_of(model, data):
    return model(**model.data_preprocessor(data, True), mode='loss')


def test_the_loss_is_the_mean_negative_log_probability_of_each_images_tags():
    model, data = build(), batch()
    losses = losses_of(model, data)
    log_probability = model.head(model.backbone((data['inputs'] - 127.5) / 64)).log_softmax(1)
    by_hand = -torch.stack([row[tags].mean() for row, tags in zip(log_probability, TAGS)]).mean()
    torch.testing.assert_close(losses['loss_tags'], by_hand)
    assert set(losses) == {'loss_tags', 'acc_tags'}
    assert not losses['acc_tags'].requires_grad


def test_any_preprocessor_is_taken_and_one_that_mixes_images_is_the_hosts():
    ours = dict(type='mm_graft.ChannelPreprocessor', **NUMBERS)
    for kwargs in ({}, {'init_cfg': None}):
        assert type(build(data_preprocessor=ours, **kwargs).data_preprocessor) is ChannelPreprocessor
    assert type(build(data_preprocessor=None).data_preprocessor) is ClsDataPreprocessor
    mixing = build(train_cfg=dict(augments=dict(type='Mixup', alpha=0.8))).data_preprocessor
    assert type(mixing) is ClsDataPreprocessor
    assert mixing.batch_augments is not None


def test_other_tags_give_another_loss():
    model, data = build(), batch()
    first = losses_of(model, data)['loss_tags']
    data['data_samples'][0].set_gt_label([4])
    assert losses_of(model, data)['loss_tags'] != first


def test_the_encoder_starts_from_the_checkpoint_and_the_head_is_new(tmp_path):
    model = start_from(build(), mae_file(tmp_path / 'mae.pth'))
    official = torch.load(tmp_path / 'mae.pth', weights_only=True)['model']
    assert torch.equal(model.backbone.layers[3].ffn.layers[1].weight, official['blocks.3.mlp.fc2.weight'])
    with pytest.raises(CheckpointError, match='another shape'):
        start_from(build(), mae_file(tmp_path / 'wide.pth', width=32))


def test_gradient_reaches_everything_but_the_position_embedding():
    model = build()
    losses_of(model, batch())['loss_tags'].backward()
    reached = {name for name, parameter in model.named_parameters()
               if parameter.grad is not None and parameter.grad.any()}
    assert {name for name, _ in model.named_parameters()} - reached == {'backbone.pos_embed'}


def test_a_few_steps_learn_the_tags():
    model, data = build(), batch([[0], [1], [2, 3]])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        losses = losses_of(model, data)
        optimizer.zero_grad()
        losses['loss_tags'].backward()
        optimizer.step()
    assert losses['loss_tags'] < 0.5
    assert losses['acc_tags'] == 100
    predicted = [sample.pred_label.item() for sample in model.eval()(**model.data_preprocessor(data), mode='predict')]
    assert predicted[:2] == [0, 1]
