"""learn_diffusion: diffusion models, small enough to read and fast enough to train while you watch.

Everything here is one sentence, read in some direction:

    x_t = alpha(t) * x0 + sigma(t) * eps        t_min is data, t_max is noise; x0 is always data

    process       the sentence itself: Estimate, from_x0, renoise
    schedules     how fast noise arrives: DDPM, VP, Cosine, EDM, Flow
    targets       what the network is asked for: x0, eps, v, u, edm
    denoiser      network + schedule + target -> an Estimate of x0 and eps
    samplers      from noise to data, one level at a time: ddim, heun, dpmpp_2m
    guidance      wrappers that steer what a denoiser says: cfg, guidance_interval, autoguidance, classifier_guidance, clip_x0
    editing       repair and change pictures: ddnm, replacement, pigdm, repaint, sdedit, invert, slerp
    training      loss, EMA, train
    checkpoints   save and load, without pickle
    metrics       how close are the samples to real data?
    nets          networks, which know nothing of diffusion: UNet, MLP, Classifier, text
    datasets      functions that return tensors: digits, scenes, toy2d
    drawing       from a trained model and a wish to pictures
    recipes       the trainings behind every file in data/;  runs: resume, time and write them;  cli: the commands
    plots         pictures with alt text;  widgets: sliders that scrub through time

Import the module you need: `from learn_diffusion import samplers`, `from learn_diffusion.schedules import Cosine`.
"""

__version__ = "0.1.0"
