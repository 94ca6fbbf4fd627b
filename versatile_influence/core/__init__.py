"""What the method is made of: losses, removals, curvatures, targets, results; no ready loss, no solver, no verb."""
