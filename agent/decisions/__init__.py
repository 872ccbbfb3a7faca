"""What people decide: questions, approvals, and results of tools that run elsewhere."""
