"""Segmentation of CamVid from MAE, graft and refiner."""
