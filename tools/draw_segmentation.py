#!/usr/bin/env python
"""Image, truth and coloured predictions of one or several checkpoints of a segmentation config, as a picture."""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mm_graft.analysis.segmentation_figure import draw, predict
from mm_graft.checkpoints import read_checkpoint
from mm_graft.commands.running import check_folders, clean_errors, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='segmentation config')
    parser.add_argument('checkpoints', nargs='+', metavar='TITLE=FILE', help='one column each')
    parser.add_argument('--out', type=Path, required=True, help='picture')
    parser.add_argument('--images', type=int, nargs='+', default=[0], help='which of the test images')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config overrides, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with clean_errors():
        cfg = load_config(args.config, args.cfg_options)
        check_folders(cfg, 'test_dataloader')
        init_default_scope(cfg.default_scope)
        data = DATASETS.build(cfg.test_dataloader.dataset)
        if not all(0 <= index < len(data) for index in args.images):
            raise ValueError(f'--images {args.images}: the test set has the images 0 to {len(data) - 1}')
        samples = [data[index] for index in args.images]
        images = [sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1] for sample in samples]  # BGR → RGB
        columns = {'truth': [sample['data_samples'].gt_sem_seg.data[0].numpy() for sample in samples]}
        for entry in args.checkpoints:
            title, found, file = entry.partition('=')
            if not found:
                raise ValueError(f'{entry!r} has no title; write TITLE=FILE')
            model = MODELS.build(cfg.model)
            model.load_state_dict(read_checkpoint(file), strict=True)
            model.to(args.device).eval()
            columns[title] = [predict(model, sample) for sample in samples]
        figure = draw(images, columns, data.metainfo['classes'], data.metainfo['palette'])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.out, dpi=110, pil_kwargs={'optimize': True})
        print(args.out)


if __name__ == '__main__':
    main()
