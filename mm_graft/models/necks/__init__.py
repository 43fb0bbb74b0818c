"""What stands between encoder and head."""
