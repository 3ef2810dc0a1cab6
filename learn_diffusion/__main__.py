"""`python -m learn_diffusion` is `learn-diffusion`."""

from learn_diffusion.cli import main

if __name__ == "__main__":
    main()
