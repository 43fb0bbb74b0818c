import torch

from mm_graft.models.backbones.localmim_swin import LocalMIMSwin

ARCH = {'embed_dims': 8, 'depths': [1, 1, 2, 1], 'num_heads': [1, 1, 2, 2]}


def build(**kwargs) -> LocalMIMSwin:
    swin = LocalMIMSwin(arch=ARCH, img_size=64, drop_path_rate=0., stage_cfgs={'block_cfgs': {'window_size': 2}},
                        **kwargs)
    swin.init_weights()
    return swin


def test_every_stage_is_read_after_merging_and_normed():
    maps = build()(torch.randn(1, 3, 64, 64), torch.zeros(1, 16, 16))
    assert [tuple(tap.shape[1:]) for tap in maps] == [(16, 8, 8), (32, 4, 4), (64, 2, 2), (64, 2, 2)]
    for tap in maps:
        torch.testing.assert_close(tap.mean(dim=1), torch.zeros_like(tap[:, 0]), atol=1e-5, rtol=0)


def test_hidden_pixels_reach_no_stage():
    swin, mask = build(), torch.zeros(1, 16, 16)
    mask[:, :8, :8] = 1
    images = torch.randn(1, 3, 64, 64)
    other = images.clone()
    other[..., :32, :32] = 5
    for ours, theirs in zip(swin(images, mask), swin(other, mask)):
        assert torch.equal(ours, theirs)


def test_only_the_stages_asked_for_are_read():
    assert len(build(out_indices=[1, 3])(torch.randn(1, 3, 64, 64), torch.zeros(1, 16, 16))) == 2


def test_the_norm_is_the_one_asked_for():
    assert build(norm_cfg={'type': 'LN', 'eps': 0.5}).norm1.eps == 0.5


def test_whole_images_are_read_at_the_same_places():
    swin, images = build(), torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(swin(images, None), swin(images, torch.zeros(1, 16, 16))):
        torch.testing.assert_close(ours, theirs)
