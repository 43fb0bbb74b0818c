"""Our steps beside those of the authors' code, mmpretrain, lightly and stable-pretraining, in one run."""
