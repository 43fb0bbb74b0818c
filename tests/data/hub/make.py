"""Write the fixtures of this folder: tiny models of transformers and open_clip, with random weights and their outputs.

    pip install --target SITE transformers open_clip_torch
    PYTHONPATH=SITE python tests/data/hub/make.py

Each folder is what the library saves (``config.json`` and ``model.safetensors``); ``tokens.npz`` beside them holds what
it makes of ``images()``: the tokens after the final norm, prefix first, and the library's pooled vector where it has one.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import torch
import transformers as hf
from safetensors.torch import save_file

HERE = Path(__file__).parent
WIDTH = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
SIZE = dict(image_size=32, patch_size=8)
VIT = WIDTH | SIZE
TEXT = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=10,
            bos_token_id=0, eos_token_id=1, pad_token_id=2)
DECODER = dict(decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
               decoder_intermediate_size=8)
MODELS = {
    'vit': lambda: hf.ViTModel(hf.ViTConfig(**VIT)),
    'vit-mae': lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**VIT, **DECODER, mask_ratio=0.)),
    'deit': lambda: hf.DeiTModel(hf.DeiTConfig(**VIT)),
    'beit': lambda: hf.BeitForImageClassification(hf.BeitConfig(
        **VIT, use_relative_position_bias=True, use_mask_token=True)),
    'beit-mim': lambda: hf.BeitForMaskedImageModeling(hf.BeitConfig(
        **VIT, use_shared_relative_position_bias=True, use_mask_token=True, vocab_size=8)),
    'dinov2': lambda: hf.Dinov2Model(hf.Dinov2Config(**VIT, mlp_ratio=2)),
    'dinov2-swiglu': lambda: hf.Dinov2Model(hf.Dinov2Config(**VIT, mlp_ratio=2, use_swiglu_ffn=True)),
    'dinov2-registers': lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(
        **VIT, mlp_ratio=2, num_register_tokens=3)),
    'dinov3': lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**VIT, num_register_tokens=3)),
    'dinov3-swiglu': lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(
        **VIT, num_register_tokens=3, use_gated_mlp=True, hidden_act='silu', query_bias=False, value_bias=False)),
    'ijepa': lambda: hf.IJepaModel(hf.IJepaConfig(**VIT)),
    'clip': lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=VIT, text_config=TEXT, projection_dim=8)),
    'clip-vision': lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT, hidden_act='gelu')),
    'siglip': lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=VIT, text_config=TEXT)),
    'siglip-vision': lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT)),
}

IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
PROCESSORS = {'vit': hf.ViTImageProcessor, 'dinov2': lambda: hf.BitImageProcessor(**IMAGENET), 'clip': hf.CLIPImageProcessor}


def images() -> torch.Tensor:
    """Two images that look the same to every version of every library."""
    return torch.sin(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) ** 1.5 * 0.01).float().view(2, 3, 32, 32)


def randomize(model: torch.nn.Module) -> None:
    """Weights that make every part count, rounded so that files compress and arithmetic is alike everywhere."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data = (draw + ('norm' in name and name.endswith('weight'))).half().float()


def outputs(name: str, model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Tokens after the final norm, and the pooled vector."""
    if name == 'vit-mae':
        noise = torch.arange(16.)[None].repeat(2, 1)
        return {'tokens': model.vit(images(), noise=noise).last_hidden_state}
    if name == 'beit':
        result = model.beit(images())  # the norm of this one stands in its pooler, behind the mean of the patches
        return {'pooled': result.pooler_output}
    if name == 'beit-mim':
        return {'tokens': model.layernorm(model.beit(images()).last_hidden_state)}
    vision = getattr(model, 'vision_model', model)
    result = vision(images())
    tokens = result.last_hidden_state
    if name.startswith('clip'):
        tokens = vision.post_layernorm(tokens)
    found = {'tokens': tokens}
    if name.startswith('siglip'):
        found['pooled'] = result.pooler_output
    return found


def write_open_clip() -> None:
    """OpenCLIP's own tower, with QuickGELU."""
    text = dict(context_length=4, vocab_size=10, width=8, heads=2, layers=1)
    vision = dict(image_size=32, layers=2, width=16, head_width=8, patch_size=8, mlp_ratio=2.0)
    folder = HERE / 'open-clip'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    randomize(model)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()},
              folder / 'open_clip_model.safetensors')
    pixels = {'mean': [0.48145466, 0.4578275, 0.40821073], 'std': [0.26862954, 0.26130258, 0.27577711]}
    settings = {'model_cfg': {'embed_dim': 16, 'quick_gelu': True, 'vision_cfg': vision, 'text_cfg': text},
                'preprocess_cfg': pixels}
    (folder / 'open_clip_config.json').write_text(json.dumps(settings, indent=1))
    model.visual.output_tokens, model.visual.proj = True, None
    with torch.no_grad():
        pooled, patches = model.visual(images())
    np.savez_compressed(folder / 'tokens.npz', tokens=torch.cat([pooled[:, None], patches], 1))


def main() -> None:
    """Write every folder anew."""
    for name, make in MODELS.items():
        model = make().eval()
        randomize(model)
        shutil.rmtree(HERE / name, ignore_errors=True)
        model.save_pretrained(HERE / name)
        if name in PROCESSORS:
            PROCESSORS[name]().save_pretrained(HERE / name)
        with torch.no_grad():
            np.savez_compressed(HERE / name / 'tokens.npz', **outputs(name, model))
    write_open_clip()


if __name__ == '__main__':
    main()
