import pytest
import torch

from mm_graft.models.data_preprocessors.channels import ChannelPreprocessor


def test_each_channel_has_its_mean_and_deviation():
    preprocessor = ChannelPreprocessor(mean=[0, 10, 20, 30, 40], std=[1, 2, 3, 4, 5])
    images = torch.full((2, 5, 4, 4), 50.0)
    found = preprocessor({'inputs': images, 'data_samples': None})['inputs']
    found = found[0] if isinstance(found, list) else found
    assert found[:, :, 0, 0].tolist() == [[50, 20, 10, 5, 2]] * 2


@pytest.mark.parametrize(('mean', 'std'), [([0], [1, 1]), ([0], [0]), ([0, 0], [1, -1])])
def test_deviations_that_do_not_fit_are_refused(mean, std):
    with pytest.raises(ValueError, match='as many, and each std positive'):
        ChannelPreprocessor(mean, std)


def test_channels_are_exchanged_before_they_are_normalized_in_single_images_and_in_views():
    preprocessor = ChannelPreprocessor(mean=[0, 10, 20], std=[1, 2, 4], to_rgb=True)
    images = torch.tensor([40., 50., 60.]).view(1, 3, 1, 1)
    for inputs in (images, [images, images]):
        found = preprocessor({'inputs': inputs, 'data_samples': None})['inputs']
        for view in found if isinstance(inputs, list) else [found]:
            assert view.flatten().tolist() == [60, 20, 5]
