"""Train the tiny models from nothing: VAE, bases with their text encoders, guide and judge.

Each function is one recipe: deterministic for its seed, thread count and library versions,
with its length in steps. Only drawn scenes are used, so every sample is fresh or from a pool that
the seed determines.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from vlg.models.flow import Flow, logit_normal
from vlg.shapes import models, slots
from vlg.shapes.captions import Meaning, Told, meaning, reserved, sentence, weak_caption, wrong
from vlg.shapes.course import Course
from vlg.shapes.world import ADAPT, NEVER, SEEN, Scene, render, sample

log = logging.getLogger("vlg")

EVERYTHING = SEEN + ADAPT + NEVER
READ_BATCH, READ_RATE = 96, 2e-3  # with 32 captions a step relations are not learned at all
LOOK_BATCH = 64


def tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """Pictures (32, 32, 3) uint8 as one (n, 3, 32, 32) float tensor in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit(
    parameters: list[torch.nn.Parameter],
    recipe: dict[str, Any],
    loss: Callable[[int], torch.Tensor],
    name: str,
    after: Callable[[int], None] = lambda step: None,
    course: Course | None = None,
) -> None:
    """AdamW with warm-up and a cosine to zero over recipe["steps"]; gradients clipped to norm 1.

    course: of which training this is a part, to go on from where that stands.
    """
    steps, course = recipe["steps"], course or Course()
    optimizer = torch.optim.AdamW(parameters, lr=recipe["lr"], weight_decay=0.01, foreach=True)
    warmup = min(200, steps // 10 + 1)
    if (done := course.begin(name, parameters, optimizer)) is None:
        return
    for step in tqdm(range(done, steps), desc=name, initial=done, total=steps, mininterval=10):
        factor = min((step + 1) / warmup, 0.5 * (1 + np.cos(np.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = recipe["lr"] * factor
        value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        after(step)
        course.step(name, step + 1, parameters, optimizer)
        if step % 200 == 0 or step == steps - 1:
            words = "%s step %d of %d: loss %.4f, %.0f s"
            log.info(words, name, step, steps, value, course.spent)
    course.end(name)


# ---------------------------------------------------------------------------------------- VAE


def train_vae(recipe: dict[str, Any], course: Course | None = None) -> Any:
    """An AutoencoderKL for the world, its latents of mean 0 and deviation 1 in each channel.

    Loss: squared error + 0.3 absolute error + 1e-7 KL.
    """
    torch.manual_seed(recipe["seed"])
    rng = random.Random(recipe["seed"])
    vae, course = models.vae().train(), course or Course()
    course.follow(rng)

    def loss(step: int) -> torch.Tensor:
        pictures = tensor([render(sample(rng, EVERYTHING)) for _ in range(recipe["batch"])])
        posterior = vae.encode(pictures).latent_dist
        output = vae.decode(posterior.sample()).sample
        error = F.mse_loss(output, pictures) + 0.3 * F.l1_loss(output, pictures)
        return error + 1e-7 * posterior.kl().mean()  # summed over 256 latent values

    fit(list(vae.parameters()), recipe, loss, "vae", course=course)
    vae.eval()
    with torch.no_grad():
        pictures = tensor([render(sample(rng, EVERYTHING)) for _ in range(512)])
        means = torch.cat([vae.encode(part).latent_dist.mode() for part in pictures.split(64)])
    fold(vae, means.mean((0, 2, 3)), means.std((0, 2, 3)))
    return vae


@torch.no_grad()
def fold(vae: Any, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Make the latents unit normal: fold `mean` and `deviation` (4,) into the 1x1 convolutions.

    z' = (z - mean) / deviation leaves the encoder's last convolution, and z = z' deviation + mean
    enters the decoder's first; what the decoder puts out stays the same.
    """
    channels = len(mean)
    out, into = vae.quant_conv, vae.post_quant_conv
    out.weight[:channels] /= deviation[:, None, None, None]
    out.bias[:channels] = (out.bias[:channels] - mean) / deviation
    out.bias[channels:] -= 2 * deviation.log()  # the other half of the channels are log variances
    into.bias += into.weight[:, :, 0, 0] @ mean
    into.weight *= deviation[None, :, None, None]


# ------------------------------------------------------------------------------- guide and judge


def _told(rng: random.Random) -> Told:
    """Half of the captions of the web are complete, the others leave attributes out."""
    if rng.random() < 0.5:
        return Told()
    return Told(*(rng.random() >= 0.3 for _ in range(4)))


def captioned(
    rng: random.Random, allowed: tuple[tuple[str, str], ...] = EVERYTHING
) -> tuple[Scene, Meaning]:
    """A scene of allowed pairs, and what a caption that no prompt is like says of it."""
    while True:
        scene = sample(rng, allowed)
        if not reserved(said := meaning(scene, _told(rng))):
            return scene, said


def contrastive_batches(
    rng: random.Random, size: int, negatives: int = 1
) -> Iterator[tuple[torch.Tensor, list[str], list[str]]]:
    """Endless (n pictures (n, 3, 32, 32), n true captions, n x negatives captions wrong in one
    detail each: those of the first picture, of the second, ...)."""
    while True:
        shown = [captioned(rng) for _ in range(size)]
        yield (
            tensor([render(scene) for scene, _ in shown]),
            [sentence(said, rng) for _, said in shown],
            [sentence(wrong(said, rng), rng) for _, said in shown for _ in range(negatives)],
        )


def train_clip(which: str, recipe: dict[str, Any], course: Course | None = None) -> Any:
    """A CLIP: `which` is "guide" (open_clip ResNet), "judge" (transformers ViT) or "siglip".

    Every picture also has hard negative captions of its own. The loss is CLIP's contrastive one
    (arXiv:2103.00020), of "siglip" SigLIP's, for each picture and text by itself
    (arXiv:2303.15343), and the cross entropy of a picture's caption among its own wrong ones. For
    recipe["look"] steps before that, both towers learn to tell what is where, by the same heads: a
    contrastive loss alone leaves who is on which side to chance. For recipe["read"] steps before
    that, the text tower alone learns what captions say, half of which tell of a relation.
    """
    torch.manual_seed(recipe["seed"])
    rng, course = random.Random(recipe["seed"]), course or Course()
    wrong_ones = recipe["negatives"]
    batches = contrastive_batches(rng, recipe["batch"], wrong_ones)
    model = {"guide": models.guide, "judge": models.judge, "siglip": models.siglip}[which]().train()
    others = list(model.buffers())
    course.follow(rng, others=others)
    tokenizer = models.t5_tokenizer() if which == "siglip" else models.tokenizer()
    if recipe["read"]:
        image = ("logit", "vision", "visual")
        asked = [each for name, each in model.named_parameters() if not name.startswith(image)]

        def vectors(texts: list[str]) -> torch.Tensor:
            return told_by(which, model, tokenizer, texts)

        def draw(index: int) -> Meaning:
            while not (said := captioned(rng)[1]).relation and index % 2:
                pass
            return said

        train_to_read(asked, vectors, recipe["read"], draw, rng, course, f"{which} reads")
        course.follow(rng, others=others)
    if recipe["look"]:
        look(which, model, tokenizer, recipe, rng, course)

    def loss(step: int) -> torch.Tensor:
        pictures, texts, negatives = next(batches)
        pictures = as_drawn(pictures)
        image, text, scale = embed(which, model, tokenizer, pictures, texts + negatives)
        logits = scale.clamp(max=100) * image @ text.T
        number = len(pictures)
        labels = torch.arange(number)
        own = logits[:, number:].view(number, number, wrong_ones)[labels, labels]
        own = torch.cat([logits.diagonal()[:, None], own], dim=1)
        told = F.cross_entropy(own, torch.zeros_like(labels))
        if which == "siglip":
            # A text that says the same of another picture is not wrong of it.
            same = torch.tensor([[a == b for b in texts + negatives] for a in texts])
            sign = same.float() * 2 - 1
            return told - F.logsigmoid(sign * (logits + model.logit_bias)).sum(1).mean()
        of_texts = F.cross_entropy(logits[:, :number].T, labels)
        return told + (F.cross_entropy(logits, labels) + of_texts) / 2

    fit(list(model.parameters()), recipe, loss, which, course=course)
    return model.eval()


def look(
    which: str,
    model: Any,
    tokenizer: Any,
    recipe: dict[str, Any],
    rng: random.Random,
    course: Course,
) -> None:
    """Teach both towers of a CLIP what pictures and captions say (`slots`), by the same heads."""

    def vectors(shown: list[tuple[Scene, Meaning]]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures = as_drawn(tensor([render(scene) for scene, _ in shown]))
        texts = [sentence(said, rng) for _, said in shown]
        return features(which, model, tokenizer, pictures, texts)

    with torch.no_grad():
        width = vectors([captioned(rng)] * 2)[0].shape[1]
    heads = slots.Heads(width, binds=True)

    def loss(step: int) -> torch.Tensor:
        shown = [captioned(rng) for _ in range(LOOK_BATCH)]
        image, text = vectors(shown)
        seen = [meaning(scene) for scene, _ in shown]
        return heads.loss(image, seen) + heads.loss(text, [said for _, said in shown])

    looking = {"steps": recipe["look"], "lr": recipe["lr"]}
    asked = [each for name, each in model.named_parameters() if not name.startswith("logit")]
    parameters = [*asked, *heads.parameters()]
    fit(parameters, looking, loss, f"{which} looks", course=course)


def as_drawn(pictures: torch.Tensor) -> torch.Tensor:
    """Renders in -1..1, some noisy and some blurred, as a model would draw them: who learns by
    these relies less on the exactness of renders."""
    share = torch.rand(len(pictures), 1, 1, 1)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.lerp(pictures, blurred, 0.6 * share * (torch.rand_like(share) < 0.5))
    return pictures + 0.08 * torch.randn_like(pictures) * torch.rand_like(share)


def features(
    which: str, model: Any, tokenizer: Any, pictures: torch.Tensor, texts: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of pictures in -1..1 and of texts, of any length."""
    if which == "guide":
        image = model.encode_image(pictures)
    else:
        image = model.get_image_features(pixel_values=pictures).pooler_output
    return image, told_by(which, model, tokenizer, texts)


def told_by(which: str, model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Embeddings of texts, of any length."""
    tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    if which == "guide":
        return model.encode_text(tokens.input_ids)
    told = {"input_ids": tokens.input_ids} if which == "siglip" else tokens
    return model.get_text_features(**told).pooler_output


def embed(which: str, model: Any, tokenizer: Any, pictures: torch.Tensor, texts: list[str]):
    """Unit embeddings of pictures in -1..1 and of texts, and the temperature's inverse."""
    image, text = features(which, model, tokenizer, pictures, texts)
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1), model.logit_scale.exp()


# ------------------------------------------------------------------------------------- the bases


class Average:
    """Exponential moving average of parameters, its decay rising to 0.999."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = parameters
        self.values = [p.detach().clone() for p in parameters]

    def follow(self, step: int) -> None:
        """Take in the parameters behind a step, counted from 0."""
        decay = min(0.999, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    def swap(self, values: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Give the parameters these values, by default the average; what they were."""
        old = [p.detach().clone() for p in self.parameters]
        for parameter, value in zip(self.parameters, values or self.values, strict=True):
            parameter.data.copy_(value)
        return old


def fit_twice(
    average: Average,
    frozen: Sequence[torch.nn.Module],
    recipe: dict[str, Any],
    loss: Callable[[int], torch.Tensor],
    name: str,
    after: Callable[[int], None],
    rng: random.Random,
    course: Course,
) -> None:
    """`fit`, and recipe["again"] steps from the average with half the learning rate and a seed of
    their own; the parameters are the average then."""
    course.follow(rng, average, [p for part in frozen for p in part.parameters()])
    fit(average.parameters, recipe, loss, name, after, course)
    average.swap()
    torch.manual_seed(recipe["seed"] + 1)
    rng.seed(recipe["seed"] + 1)
    again = {**recipe, "steps": recipe["again"], "lr": recipe["lr"] / 2}

    def later(step: int) -> None:
        after(step + recipe["steps"])

    fit(average.parameters, again, loss, f"{name} again", later, course)
    average.swap()


def seen_scenes(number: int, vae: Any, rng: random.Random) -> tuple[list[Scene], torch.Tensor]:
    """Scenes without ADAPT and NEVER pairs, and their latents (number, 4, 8, 8)."""
    scenes = [sample(rng, SEEN) for _ in range(number)]
    with torch.no_grad():
        latents = torch.cat(
            [
                vae.encode(tensor([render(s) for s in scenes[i : i + 100]])).latent_dist.mode()
                for i in range(0, len(scenes), 100)
            ]
        )
    return scenes, latents


def weakly_captioned(
    scenes: list[Scene], size: int, rng: random.Random
) -> tuple[list[int], list[str]]:
    """A batch: indices of scenes, and a weak caption of each."""
    chosen = [rng.randrange(len(scenes)) for _ in range(size)]
    return chosen, [weak_caption(scenes[i], rng.choice(scenes), rng) for i in chosen]


def train_to_read(
    parameters: Sequence[torch.nn.Parameter],
    vectors: Callable[[list[str]], torch.Tensor],
    steps: int,
    draw: Callable[[int], Meaning],
    rng: random.Random,
    course: Course,
    name: str = "reading",
) -> None:
    """Teach text encoders, of whose states `vectors` makes one of each text, what captions say
    (`slots`); draw(index): what the caption at a place of a batch says."""
    with torch.no_grad():
        heads = slots.Heads(vectors([""]).shape[1], untold=True)

    def loss(step: int) -> torch.Tensor:
        said = [draw(index) for index in range(READ_BATCH)]
        return heads.loss(vectors([sentence(each, rng) for each in said]), said)

    course.follow(rng)
    reading = {"steps": steps, "lr": READ_RATE}
    fit([*parameters, *heads.parameters()], reading, loss, name, course=course)


def read_and_freeze(
    encoders: Sequence[torch.nn.Module],
    vectors: Callable[[list[str]], torch.Tensor],
    steps: int,
    rng: random.Random,
    course: Course,
) -> None:
    """Teach a base's text encoders to read captions of pairs that it may see, and freeze them.

    Stable Diffusion's text encoder is no beginner and frozen, too; these have read about no
    picture. Trained along with the base they soon forget which thing a relation puts where.
    """
    parameters = [p for part in encoders for p in part.parameters()]
    train_to_read(parameters, vectors, steps, lambda _: captioned(rng, SEEN)[1], rng, course)
    for part in encoders:
        part.requires_grad_(False)


def train_base(
    recipe: dict[str, Any],
    vae: Any,
    keep: Callable[[str, Any, Any], None],
    course: Course | None = None,
) -> None:
    """A UNet on weak captions of pictures without ADAPT and NEVER pairs, and its text encoder.

    The text encoder first learns to read (`read_and_freeze`) for recipe["read"] steps.
    `keep(name, unet, text_encoder)` is called with the averaged weights: "base-early" and
    "base-middle" at the shares recipe["early"] and recipe["middle"] of the steps, and "base" at the
    end. The squared error of the noise is divided by the square root of the signal to noise ratio
    (arXiv:2310.08442): what is where is decided in much noise. Exponential moving average with
    decay 0.999. After recipe["steps"] the averaged weights are trained for recipe["again"] more
    from half the learning rate, with a seed of its own.
    """
    torch.manual_seed(recipe["seed"])
    rng = random.Random(recipe["seed"])
    tokenizer, unet, text_encoder = models.tokenizer(), models.unet(), models.text_encoder()
    scenes, latents = seen_scenes(recipe["scenes"], vae, rng)
    course = course or Course()

    def read(texts: list[str]) -> Any:
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        return text_encoder(tokens.input_ids)

    read_and_freeze(
        [text_encoder], lambda texts: read(texts).pooler_output, recipe["read"], rng, course
    )
    noise_schedule = models.scheduler()
    alphas = noise_schedule.alphas_cumprod
    average = Average(list(unet.parameters()))

    def loss(step: int) -> torch.Tensor:
        chosen, texts = weakly_captioned(scenes, recipe["batch"], rng)
        hidden = read(texts).last_hidden_state
        clean = latents[chosen]
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, 1000, (len(chosen),))
        noisy = noise_schedule.add_noise(clean, noise, timesteps)
        error = (unet(noisy, timesteps, hidden).sample - noise).square().mean((1, 2, 3))
        snr = alphas[timesteps] / (1 - alphas[timesteps])
        return (error * snr.rsqrt()).mean()

    def after(step: int) -> None:
        average.follow(step)
        for name in ("early", "middle"):
            if step + 1 == max(1, int(recipe[name] * recipe["steps"])):
                trained = average.swap()
                keep(f"base-{name}", unet, text_encoder)
                average.swap(trained)

    fit_twice(average, [text_encoder], recipe, loss, "base", after, rng, course)
    keep("base", unet, text_encoder)


def train_flow(recipe: dict[str, Any], vae: Any, course: Course | None = None) -> Any:
    """A StableDiffusion3Pipeline of a transformer and its three text encoders, on the pictures and
    weak captions of `train_base`, taught to read, trained twice and averaged as there.

    Loss: squared error of the flow, noise - picture, at logit-normal timesteps (arXiv:2403.03206).
    """
    torch.manual_seed(recipe["seed"])
    rng = random.Random(recipe["seed"])
    net, texts = models.transformer().train(), models.flow_texts()
    pipeline = models.flow_pipeline(vae, net, texts)
    scenes, latents = seen_scenes(recipe["scenes"], vae, rng)
    flow = Flow(pipeline.scheduler.sigmas.flip(0))
    course = course or Course()

    def read(captions: list[str]) -> torch.Tensor:
        states, pooled = told(pipeline, captions)
        return torch.cat([pooled, states[:, models.CONTEXT :].mean(1)], dim=1)

    read_and_freeze(texts, read, recipe["read"], rng, course)
    average = Average(list(net.parameters()))

    def loss(step: int) -> torch.Tensor:
        chosen, captions = weakly_captioned(scenes, recipe["batch"], rng)
        clean = latents[chosen]
        noise = torch.randn_like(clean)
        t = logit_normal(len(chosen), len(flow))
        states, pooled = told(pipeline, captions)
        flowing = net(flow.add_noise(clean, noise, t), states, pooled, flow.sigma(t) * len(flow))
        return F.mse_loss(flowing.sample, flow.target(clean, noise, t))

    fit_twice(average, texts, recipe, loss, "flow", average.follow, rng, course)
    return pipeline


def told(pipeline: Any, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """What Stable Diffusion 3 tells its transformer of texts, with a gradient: states (n, 48, 96)
    of the CLIPs side by side and then of T5, and both CLIPs' pooled (n, 96)."""

    def ids(tokenizer: Any) -> torch.Tensor:
        padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return tokenizer(captions, **padded).input_ids

    tokens = ids(pipeline.tokenizer)
    clips = [
        clip(tokens, output_hidden_states=True)
        for clip in (pipeline.text_encoder, pipeline.text_encoder_2)
    ]
    states = torch.cat([clip.hidden_states[-2] for clip in clips], dim=-1)
    t5 = pipeline.text_encoder_3(ids(pipeline.tokenizer_3))[0]
    return torch.cat([states, t5], dim=1), torch.cat([clip.text_embeds for clip in clips], dim=-1)
