"""For authors of policies and rules: try, check, explain; and make again what was decided."""
