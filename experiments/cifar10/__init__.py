"""The methods of the papers on CIFAR-10, trained and evaluated side by side."""
