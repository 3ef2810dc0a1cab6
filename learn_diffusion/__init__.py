"""learn_diffusion: diffusion models for a course, small enough to read.

The forward process is x_t = alpha(t) * x0 + sigma(t) * eps; t_min is data, t_max is noise, and x0 is always data.

    process       Estimate, from_x0, renoise
    schedules     alpha(t) and sigma(t): DDPM, VP, Cosine, EDM, Flow
    targets       prediction targets: x0, eps, v, u, edm
    denoiser      network + schedule + target -> Estimate of x0 and eps
    samplers      ddim (eta=1 is DDPM), heun, dpmpp_2m
    guidance      cfg, guidance_interval, autoguidance, classifier_guidance, clip_x0
    editing       ddnm, replacement, pigdm, repaint, sdedit, diffedit_mask, invert, slerp
    likelihood    bits per dimension, the bound and the flow;  mixture: Gaussians whose denoiser is known exactly
    training      loss, EMA, train;  optim: Muon;  distributed: several processes;  gan: training of a GAN
    flow_maps     MeanFlow and reflow: few calls;  adapters: LoRA and ControlNet;  challenge: the few-call challenge
    sampling      sample from a trained model, given a prompt or a label;  pipelines: Stable Diffusion, small
    checkpoints   save and load, without pickle
    metrics       distances between samples and real data
    nets          networks, independent of diffusion: UNet, MLP, Classifier, Generator, text
    datasets      functions that return tensors
    devices       where to compute;  validation: the errors of bad arguments;  doctor: is all installed?
    recipes       how each file in data/ is trained and evaluated;  cli: the commands
    plots         figures with alt text;  widgets: sliders that scrub through time
    exercises     exercises that check themselves

Import the module you need: `from learn_diffusion import samplers`, `from learn_diffusion.schedules import Cosine`.
"""

__version__ = "0.1.0"
