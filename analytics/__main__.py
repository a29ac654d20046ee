"""`python -m analytics`: the service alone."""

from analytics.service import run
from contracts.runtime import main
from contracts.settings import settings

if __name__ == "__main__":
    main(run, settings())
