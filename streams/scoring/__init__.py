"""How likely the small model suffices: learned from labelled questions, run as sums over what a prompt says."""
