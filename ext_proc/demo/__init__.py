"""Everything on one machine: `stack` starts it, `story` tells what it does. Nothing here is part of the gate."""

from ext_proc.demo.stack import print_token, run_demo

__all__ = ["print_token", "run_demo"]
