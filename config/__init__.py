"""What the operator writes: every setting, its default and its meaning."""
