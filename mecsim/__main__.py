"""``python -m mecsim`` is ``mecsim``."""

from mecsim.cli import main

if __name__ == "__main__":
    main()
