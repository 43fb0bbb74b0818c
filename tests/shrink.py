"""Models of published configs, made small."""

TINY_WIDTH = 24
# published widths and hidden sizes → small ones, wherever they stand in a model
SMALLER = {384: TINY_WIDTH, 768: TINY_WIDTH, 1024: TINY_WIDTH, 1280: TINY_WIDTH, 2560: TINY_WIDTH, 1536: 48, 3072: 48,
           4096: 48, 512: 32, 256: 24, 2048: 48, 8192: 48, 65536: 64}
LAYERS = {'t': 12, 's': 12, 'b': 12, 'l': 24, 'h': 32}
WIDTHS = ('embed_dims', 'embed_dim', 'in_channels', 'hid_channels', 'out_channels', 'channels', 'predictor_channels',
          'decoder_embed_dim', 'decoder_embed_dims', 'embed_dims_per_scale', 'predict_feature_dim')


def shrink(node: object, key: str = '') -> object:
    """The same model with small widths; depths, image sizes and everything else stay."""
    if key == 'arch' and isinstance(node, dict) and node['embed_dims'] > 1280:  # larger than the host's own
        return dict(embed_dims=TINY_WIDTH, num_layers=node['num_layers'], num_heads=2, feedforward_channels=48)
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained':
            return None
        small = {name: shrink(value, name) for name, value in node.items()}
        return {**small, 'embed_dim': TINY_WIDTH, 'num_heads': 2} if 'model_name' in node else small  # timm's
    if isinstance(node, list | tuple):
        return type(node)(shrink(value, key) for value in node)
    if key == 'arch' and isinstance(node, str):
        layers = LAYERS[node.removeprefix('deit-').removeprefix('mocov3-')[0]]
        return dict(embed_dims=TINY_WIDTH, num_layers=layers, num_heads=2, feedforward_channels=48)
    if key == 'pretrained':
        return None
    if key in WIDTHS and isinstance(node, int):
        return SMALLER.get(node, node)
    return node


def shrink_swin(model: dict) -> dict:
    """Swin's widths stand in too many places; its depth goes down instead."""
    backbone = {**model['backbone'], 'arch': dict(embed_dims=128, depths=[2, 2, 2, 2], num_heads=[4, 8, 16, 32])}
    return {**model, 'backbone': backbone}


def small(model: dict) -> dict:
    """A model of any of the configs, made small."""
    return (shrink_swin if 'Swin' in model['backbone']['type'] else shrink)(model)
