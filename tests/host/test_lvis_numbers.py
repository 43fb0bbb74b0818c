import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np

from mm_graft.host.lvis_numbers import give_float
from tests.own_process import SECONDS

EVALUATION = 'import numpy as np\n\n\ndef total(values):\n    return np.cumsum(values).astype(dtype=np.float)\n'
PROGRAM = ('import json, sys; sys.path.insert(0, sys.argv[1]); import mm_graft.host.lvis_numbers, lvis.eval, numpy; '
           'found = lvis.eval.total([1, 2]); '
           'print(json.dumps([found.tolist(), str(found.dtype), "float" in vars(numpy)]))')


def test_a_module_gets_the_old_name_beside_all_others():
    module = SimpleNamespace(np=np)
    give_float(module)
    assert module.np.float is float
    assert module.np.cumsum is np.cumsum
    assert not hasattr(np, 'float')


def test_lvis_counts_with_it_once_the_module_is_imported(tmp_path):
    (tmp_path / 'lvis').mkdir()
    (tmp_path / 'lvis' / '__init__.py').write_text('')
    (tmp_path / 'lvis' / 'eval.py').write_text(EVALUATION)
    done = subprocess.run([sys.executable, '-c', PROGRAM, str(tmp_path)], text=True, capture_output=True, check=True,
                          timeout=SECONDS)
    assert json.loads(done.stdout.splitlines()[-1]) == [[1.0, 3.0], 'float64', False]
