"""How well pictures fit their texts: emoji of people, of combinations of role, gender and skin tone that were never
seen together.

    python benchmarks/text.py --data FOLDER --minutes 20 --threads 2

Data: the npm packages emoji-datasource-twitter and emoji-datasource-google (`npm pack NAME@16.0.0`; --data is the
folder that holds the two .tgz): the people of Twemoji at 64x64 with their names as captions ("woman firefighter: dark
skin tone"). Of each role that is drawn as a woman and as a man, one skin tone of each is held out: the generator sees
the role, the gender, the tone, and each two of them, but not the three together.

Measured by retrieval: for each of 100 held-out captions pictures are generated; another network ranks the 100 captions
for each picture, and R@1 is how often the picture's own is first. That network learns from pairs of picture and caption
by a contrastive loss (InfoNCE), from Noto's people, all combinations, and from the Twemoji that the generator is
trained on; its weights, its loss and Noto's pictures are no part of the generator's training, and it has not seen the
held-out Twemoji either. Beside R@1 stand its ceiling (the real held-out pictures), its floor (captions shuffled among
the generated pictures), and how often the first caption has the right role, gender and tone; and the same of pictures
that are drawn for captions with synonyms in place of their genders and of some roles, which no caption has.

Writes results/text.json and results/text.png: a row for each of some prompts, the real picture first where there is
one.
"""

from __future__ import annotations

import argparse
import json
import re
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import limner
from limner.core.images import grid, to_float, write_png
from limner.core.tokenizer import Tokenizer, words
from limner.data.samples import SKIN_TONES
from limner.families.train import train
from limner.networks.text2image import SentenceEncoder
from translate_quality import PACKAGES, RESULTS, unpack

SUBCATEGORIES = ("person", "person-role", "person-activity", "person-sport", "person-gesture", "person-fantasy")
CANDIDATES = 100  # captions that a picture is ranked against
EACH = 8  # pictures of each caption
SHIFT, BATCH, TEMPERATURE = 4, 64, 0.07  # of the retrieval network: pixels, pairs a step, and the scale of its logits
PROMPTS = (  # the first is of a combination that is trained on, the next five are of held-out ones, the last two no picture's
    "woman firefighter: dark skin tone", "man firefighter: medium skin tone", "woman astronaut: medium-light skin tone",
    "man cook: medium-dark skin tone", "woman police officer: medium skin tone", "man farmer: light skin tone",
    "woman with a red hat: dark skin tone", "old man with a beard",
)  # fmt: skip

SYNONYMS = {  # of words in captions, a gender in each that is held out; no caption has them
    "woman": "lady", "man": "guy", "cook": "chef", "teacher": "instructor", "scientist": "researcher", "singer": "vocalist",
    "artist": "painter", "student": "pupil", "pilot": "aviator", "mechanic": "repairman", "technologist": "programmer",
    "firefighter": "fireman", "running": "jogging", "walking": "strolling",
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A picture's name in the packages, and what its caption says."""

    file: str
    caption: str
    role: str
    gender: str  # woman, man or ""
    tone: str  # "" for the yellow one


def people(folder: Path) -> list[Person]:
    """The people of the packages, one skin tone each, in order of their names."""
    with tarfile.open(folder / PACKAGES["twitter"]) as package:
        file = package.extractfile("package/emoji.json")
        assert file is not None
        entries = json.load(file)
    found = []
    for entry in entries:
        if (
            entry["category"] != "People & Body"
            or entry["subcategory"] not in SUBCATEGORIES
            or "skin_variations" not in entry
        ):
            continue
        name = entry["name"].lower()
        first, _, rest = name.partition(" ")
        gender = first.rstrip(":") if first.rstrip(":") in ("woman", "man") and rest else ""
        role = rest if gender else name
        found.append(Person(entry["unified"].lower(), name, role, gender, ""))
        for code, variation in entry["skin_variations"].items():
            tone = SKIN_TONES.get(code.lower())
            if tone:
                found.append(Person(variation["unified"].lower(), f"{name}: {tone}", role, gender, tone))
    return found


def held_out(everyone: list[Person]) -> set[str]:
    """The files of one woman and one man of each role, whose tones rotate over the roles."""
    tones, found = list(SKIN_TONES.values()), set()
    roles = sorted({p.role for p in everyone if p.gender == "woman"} & {p.role for p in everyone if p.gender == "man"})
    for i, role in enumerate(roles):
        for j, gender in enumerate(("woman", "man")):
            tone = tones[(i + 2 * j) % len(tones)]
            found |= {p.file for p in everyone if (p.role, p.gender, p.tone) == (role, gender, tone)}
    return found


def renamed(caption: str) -> str:
    """The caption with synonyms in place of its words."""
    return re.sub(r"[a-z]+", lambda found: SYNONYMS.get(found[0], found[0]), caption)


def on_white(pictures: np.ndarray | Tensor) -> Tensor:
    """uint8 [N,4,H,W] -> float [N,3,H,W] in [-1,1], on white."""
    x = to_float(torch.as_tensor(np.asarray(pictures)))
    alpha = (x[:, 3:] + 1) / 2
    return x[:, :3] * alpha + 1 - alpha


class Retrieval(nn.Module):
    """Pictures and captions as directions in one space, [N,D] each."""

    def __init__(self, tokenizer: Tokenizer, width: int = 32, size: int = 128) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.texts = SentenceEncoder(tokenizer.condition, 64, size, tokenizer.word_tokens)
        widths = [width * 2**i for i in range(4)]
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.pictures = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, size))

    def of_pictures(self, x: Tensor) -> Tensor:
        return F.normalize(self.pictures(x).float(), dim=1)

    def of_texts(self, captions: list[str]) -> Tensor:
        return F.normalize(self.texts(self.tokenizer.encode(captions)), dim=1)


def augmented(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shifted, blurred and noisy pictures, so that small faults of a generator do not decide."""
    top, left = (int(v) for v in rng.integers(0, 2 * SHIFT + 1, 2))
    x = F.pad(x, (SHIFT,) * 4, value=1.0)[..., top : top + x.shape[2], left : left + x.shape[3]]
    if rng.random() < 0.5:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    return x + 0.1 * torch.from_numpy(rng.standard_normal(x.shape, np.float32))


def learn_retrieval(pictures: Tensor, captions: list[str], steps: int, seed: int) -> Retrieval:
    """Train the retrieval network on pairs, symmetric InfoNCE (Radford et al. 2021, "CLIP", figure 3). Equal captions
    in a batch count as one."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Retrieval(Tokenizer())
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = rng.choice(len(captions), BATCH, replace=False)
        rows = np.array(list({captions[i]: i for i in rows}.values()))
        logits = (
            net.of_pictures(augmented(pictures[rows], rng)) @ net.of_texts([captions[i] for i in rows]).T / TEMPERATURE
        )
        target = torch.arange(len(rows))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def retrieval(net: Retrieval, pictures: Tensor, own: list[Person], candidates: list[Person]) -> dict[str, float]:
    """R@1 of pictures among the captions of the candidates, and how often the first has the right attributes.

    pictures: float [N,3,H,W]; own: of each, one of the candidates.
    """
    texts = net.of_texts([p.caption for p in candidates])
    first = torch.cat([net.of_pictures(x) @ texts.T for x in pictures.split(200)]).argmax(1).tolist()
    pairs = [(candidates[i], p) for i, p in zip(first, own, strict=True)]
    right = {"r_at_1": lambda a, b: a.caption == b.caption, "role": lambda a, b: a.role == b.role,
             "gender": lambda a, b: a.gender == b.gender, "tone": lambda a, b: a.tone == b.tone}  # fmt: skip
    return {name: round(float(np.mean([same(a, b) for a, b in pairs])), 3) for name, same in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the two .tgz")
    parser.add_argument("--minutes", default="20")
    parser.add_argument("--images", help="a budget in images, in place of --minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500, help="of the retrieval network")
    parser.add_argument(
        "--work", type=Path, default=Path("build/text"), help="for pictures, the retrieval network and the run"
    )
    parser.add_argument("--set", nargs="*", default=[], help="options of the recipe, NAME=VALUE (a number, true, false or a word), for trials")
    parser.add_argument("--run", default="run", help="name of the run in --work")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    everyone, twemoji, noto = people(options.data), unpack(options.data, "twitter"), unpack(options.data, "google")
    everyone = [p for p in everyone if p.file in twemoji]
    hidden = held_out(everyone)
    seen = [p for p in everyone if p.file not in hidden]
    unseen = [p for p in everyone if p.file in hidden]
    folder = options.work / "people"
    folder.mkdir(parents=True, exist_ok=True)
    for person in seen:
        Image.fromarray(twemoji[person.file]).save(folder / f"{person.file}.png")
    lines = [json.dumps({"file": f"{p.file}.png", "caption": p.caption}) for p in seen]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")

    def stacked(maker: dict[str, np.ndarray], of: list[Person]) -> Tensor:
        return on_white(np.stack([maker[p.file] for p in of]).transpose(0, 3, 1, 2))

    cached = options.work / f"retrieval-{options.steps}-{options.seed}.pt"
    in_noto = [p for p in everyone if p.file in noto]
    if cached.exists():
        net = Retrieval(Tokenizer())
        net.load_state_dict(torch.load(cached, weights_only=True))
        net.eval()
    else:
        pairs = torch.cat([stacked(noto, in_noto), stacked(twemoji, seen)])
        net = learn_retrieval(pairs, [p.caption for p in (*in_noto, *seen)], options.steps, options.seed)
        torch.save(net.state_dict(), cached)

    rng = np.random.default_rng(options.seed)
    candidates = [unseen[i] for i in sorted(rng.permutation(len(unseen))[:CANDIDATES])]
    ceiling = retrieval(net, stacked(twemoji, candidates), candidates, candidates)
    print("real held-out pictures:", ceiling, flush=True)

    def value(text: str) -> bool | float | int | str:
        try:
            return json.loads(text)
        except ValueError:
            return text

    changes = {name: value(text) for name, _, text in (item.partition("=") for item in options.set)}
    budget = {"images": options.images} if options.images else {"minutes": options.minutes}
    started, cpu = time.monotonic(), time.process_time()
    trained = train(
        folder,
        recipe="text2image",
        out=options.work / options.run,
        seed=options.seed,
        threads=options.threads,
        changes=changes,
        **budget,
    )
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    model = limner.load(trained.folder, "cpu")

    def drawn(of: list[Person], text: Callable[[str], str] = str) -> tuple[Tensor, list[Person]]:
        made = model.sample(EACH, text=[text(p.caption) for p in of], seed=options.seed)
        return on_white(made), [p for p in of for _ in range(EACH)]

    made, own = drawn(candidates)
    shuffled = own[EACH * 7 :] + own[: EACH * 7]
    assert not {word for p in everyone for word in words(p.caption)} & set(SYNONYMS.values())
    trained_on = [seen[i] for i in sorted(rng.permutation(len(seen))[:CANDIDATES])]
    result = {
        "protocol": f"{len(seen)} Twemoji people; {CANDIDATES} of {len(unseen)} held-out combinations, {EACH} pictures each",
        "images": trained.outcome.seen, "wall_minutes": round(wall / 60, 1), "cpu_minutes": round(cpu / 60, 1),
        "changes": changes,
        "ceiling": ceiling,
        "generated": retrieval(net, made, own, candidates),
        "floor": retrieval(net, made, shuffled, candidates),
        "synonyms": retrieval(net, *drawn(candidates, renamed), candidates),
        "trained_captions": retrieval(net, *drawn(trained_on), trained_on),
        "trained_captions_ceiling": retrieval(net, stacked(twemoji, trained_on), trained_on, trained_on),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "text.json").write_text(json.dumps(result, indent=1) + "\n")
    sheet(model, twemoji, everyone)


def sheet(model: limner.TextGenerator, twemoji: dict[str, np.ndarray], everyone: list[Person]) -> None:
    """Write a row for each prompt: the real picture, blank where there is none, and samples."""
    real = {p.caption: twemoji[p.file].transpose(2, 0, 1) for p in everyone}
    blank = np.zeros((model.spec.channels, *model.spec.size), np.uint8)
    made = np.asarray(model.sample(EACH, text=PROMPTS)).reshape(len(PROMPTS), EACH, *blank.shape)
    rows = [np.concatenate([real.get(prompt, blank)[None], of]) for prompt, of in zip(PROMPTS, made, strict=True)]
    write_png(RESULTS / "text.png", grid(np.concatenate(rows), EACH + 1, scale=1))


if __name__ == "__main__":
    main()
