"""``python -m emotion`` is the ``emotion`` command."""

import sys

from emotion.commands.main import main

sys.exit(main())
