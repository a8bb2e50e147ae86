"""The console's ports and its process: where the rooms `console`, `evidence` and `approval` meet."""
