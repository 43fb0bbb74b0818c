"""Speed, memory and operations of training steps and loaders, measured."""
