import pytest
import torch

from mm_graft.checkpoints.adapters import merge_adapters, merged_weight, without_adapters


def adapted():
    return {'a.weight': torch.eye(2), 'a.bias': torch.ones(2), 'a.lora_down': torch.tensor([[1.0, 2.0]]),
            'a.lora_up': torch.tensor([[3.0], [4.0]]), 'a.lora_scale': torch.tensor(0.5), 'b.weight': torch.zeros(2)}


def test_the_product_is_scaled_and_added():
    merged = merge_adapters(adapted())
    assert merged['a.weight'].tolist() == [[1 + 1.5, 3.0], [2.0, 1 + 4.0]]
    assert list(merged) == ['a.weight', 'a.bias', 'b.weight']
    assert torch.equal(merged['a.bias'], torch.ones(2))


def test_a_merged_weight_keeps_its_type():
    weight, down, up = torch.eye(2).bfloat16(), torch.ones(1, 2), torch.ones(2, 1)
    assert merged_weight(weight, down, up, 1.0).dtype == torch.bfloat16


def test_without_adapters_nothing_changes():
    plain = {'a.weight': torch.eye(2)}
    assert merge_adapters(plain) is plain
    assert set(without_adapters(adapted())) == {'a.weight', 'a.bias', 'b.weight'}


@pytest.mark.parametrize('part', ['a.weight', 'a.lora_down', 'a.lora_up', 'a.lora_scale'])
def test_an_adapter_that_is_not_whole_is_refused(part):
    tensors = adapted()
    del tensors[part]
    with pytest.raises(ValueError, match=r'the adapter a\.lora_… is incomplete'):
        merge_adapters(tensors)
