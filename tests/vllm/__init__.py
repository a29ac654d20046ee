"""Tests with the real vLLM on a CPU: `make test-vllm`, in an environment of its own."""
