import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

import mm_graft
import mm_graft.registry  # lets `_base_` name configs of ours and of mmseg
from mm_graft.version import __version__


@pytest.mark.parametrize(('base', 'keys'), [
    ('mmseg::_base_/default_runtime.py', {'default_scope': 'mmseg'}),
    ('mmpretrain::_base_/default_runtime.py', {'default_scope': 'mmpretrain'}),
    ('mm_graft::graft/vit-b_mae2mocov3.py', {'default_scope': 'mmpretrain', 'batch_size': 4096}),
])
def test_a_config_may_start_from_one_of_any_package(tmp_path, base, keys):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{base}'\n")
    cfg = Config.fromfile(path)
    assert {key: cfg[key] for key in keys} == keys


def test_the_version_is_readable_from_both_places():
    assert mm_graft.__version__ == __version__
    assert re.fullmatch(r'\d+\.\d+\.\d+', __version__)


def test_the_model_index_names_every_metafile_and_they_name_configs_that_exist():
    root = Path(__file__).parents[1]
    index = yaml.safe_load((root / 'model-index.yml').read_text())['Import']
    assert sorted(index) == sorted(str(path.relative_to(root)) for path in root.glob('configs/*/metafile.yml'))
    for metafile in index:
        for model in yaml.safe_load((root / metafile).read_text())['Models']:
            assert (root / model['Config']).is_file(), model['Config']
