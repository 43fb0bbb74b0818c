"""MAE, graft and refiner side by side on Fashion-MNIST."""
