"""Training over mmengine's Runner, and measuring: nothing else in the core knows the Runner."""
