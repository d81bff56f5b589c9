"""``python -m modelopt_cli``."""

from modelopt_cli.cli.app import main

if __name__ == "__main__":
    main()
