"""Where the packed program begins: workers of a search are copies of it, which must not run the command line again."""

from multiprocessing import freeze_support

from evo.__main__ import main

if __name__ == "__main__":
    freeze_support()
    main()
