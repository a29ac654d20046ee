"""`python -m inference`: a worker with the settings of its environment."""

from contracts.runtime import main
from contracts.settings import settings
from inference.service import run

if __name__ == "__main__":  # vLLM starts its core by importing this module again
    main(run, settings())
