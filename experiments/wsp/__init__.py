"""MAE → weak supervision by noisy hashtags on Fashion-MNIST."""
