import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mm_graft.commands.embed import add_arguments, check, run
from tests.tiny import mae_file


def parse(tmp_path, *options):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    mae_file(tmp_path / 'a.pth')
    (tmp_path / 'images').mkdir(exist_ok=True)
    return parser.parse_args([str(tmp_path / 'a.pth'), str(tmp_path / 'images'), *options])


def test_a_table_has_no_matrices(tmp_path):
    with pytest.raises(ValueError, match=r'ends in \.npz'):
        check(parse(tmp_path, '--out', 'a.parquet', '--pool', 'patches'))


def test_another_image_size_is_encoded_by_the_option_that_the_refusal_names(tmp_path):
    args = parse(tmp_path, '--out', str(tmp_path / 'out.npz'), '--cfg-options', 'model.backbone.img_size=64')
    Image.new('RGB', (80, 64)).save(tmp_path / 'images/a.png')
    with pytest.raises(ValueError, match=r'4 × 4 patches.*--resize'):
        run(args, check(args))
    args.resize = True
    run(args, check(args))
    assert np.load(tmp_path / 'out.npz')['features'].shape == (1, 16)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / 'out.npz').write_bytes(b'')
    with pytest.raises(ValueError, match='exists; remove it'):
        check(parse(tmp_path, '--out', str(tmp_path / 'out.npz')))
    assert check(parse(tmp_path, '--out', str(Path(tmp_path) / 'new.npz'))).model.backbone.img_size == 32
