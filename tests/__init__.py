"""The test suite; a package, since an installed one may have the same name."""
