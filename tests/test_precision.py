import pytest

from mm_graft import precision
from mm_graft.precision import has_bfloat16


@pytest.mark.parametrize(('flags', 'expected'), [
    ('flags : fpu avx2 avx512f avx512_bf16', True), ('Features : fp asimd bf16', True), ('flags : fpu amx_bf16', True),
    ('flags : fpu avx2 avx512f', False), ('model name : bf16-like', False)])
def test_the_flags_of_the_cpu_decide(flags, expected, monkeypatch):
    has_bfloat16.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(precision.Path, 'read_text', lambda path: flags)
        assert has_bfloat16('cpu') == expected
    has_bfloat16.cache_clear()
    assert not has_bfloat16('meta')


def test_a_gpu_that_emulates_bf16_does_not_have_it(monkeypatch):
    has_bfloat16.cache_clear()
    monkeypatch.setattr(precision.torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(precision.torch.cuda, 'is_bf16_supported', lambda including_emulation=True: including_emulation)
    assert not has_bfloat16('cuda')
    has_bfloat16.cache_clear()
