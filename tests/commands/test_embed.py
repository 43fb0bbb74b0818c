import argparse
from pathlib import Path

import pytest

from mm_graft.commands.embed import add_arguments, check
from tests.tiny import mae_file


def parse(tmp_path, *options):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    mae_file(tmp_path / 'a.pth')
    (tmp_path / 'images').mkdir(exist_ok=True)
    return parser.parse_args([str(tmp_path / 'a.pth'), str(tmp_path / 'images'), *options])


@pytest.mark.parametrize(('options', 'message'), [
    (['--out', 'a.csv'], r'ends in \.npz or \.parquet'),
    (['--out', 'a.parquet', '--pool', 'patches'], r'ends in \.npz')])
def test_outputs_that_cannot_be_written_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check(parse(tmp_path, *options))


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / 'out.npz').write_bytes(b'')
    with pytest.raises(ValueError, match='exists; remove it'):
        check(parse(tmp_path, '--out', str(tmp_path / 'out.npz')))
    assert check(parse(tmp_path, '--out', str(Path(tmp_path) / 'new.npz'))).model.backbone.img_size == 32
