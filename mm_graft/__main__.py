"""``python -m mm_graft COMMAND …``: the same as the console script."""

from mm_graft.commands.main import main

main()
