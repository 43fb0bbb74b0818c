"""Mask R-CNN for cars and pedestrians in CamVid, from MAE and from random weights."""
