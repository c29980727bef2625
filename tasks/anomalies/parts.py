"""The training of one part after the other, with what each needs prepared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tasks.anomalies.calibrate import calibrate, stretches
from tasks.anomalies.config import PARTS, PretrainConfig
from tasks.anomalies.data import FlowClips, FrameClips, feature_loader, flow_batches, flow_loader, frame_batches, frame_loader
from tasks.anomalies.footage import Footage, PseudoFolder
from tasks.anomalies.method import Discrimination, Reconstruction
from tasks.anomalies.prepare import Tick, feature_files, flow_files, flow_used
from tasks.anomalies.stream import Networks
from tasks.core.checkpoint import encoder_weights, find_model, load_strict, load_weights
from tasks.core.data.batch import Batch
from tasks.core.engine import setup
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.run import Run
from tasks.core.signals import StopFlag, exit_for
from tasks.core.towers.visual import load_encoder
from tasks.core.world import world

Items = tuple[Callable[[int], Any], Callable[[Batch, torch.device], Batch], int]
"""Loader from the number of micro-batches to pass over, what prepares a batch, and items in the set."""


def parts_of_run(config: PretrainConfig) -> list[str]:
    """The parts to train: those asked for; semantic only where it has an encoder and pseudo-anomalies."""
    can = {"appearance": True, "motion": True, "semantic": bool(config.semantic.encoder and config.pseudo)}
    return [part for part in can if part in config.parts and can[part]]


def optim_of(config: PretrainConfig, part: str) -> OptimConfig:
    """A part's optimizer in the loop's terms."""
    if part != "semantic":
        return config.optim
    own = config.semantic
    kind = {"name": "sgd", "momentum": own.momentum, "nesterov": False, "schedule": "constant"}
    return OptimConfig(base_lr=own.lr, scale_lr=False, weight_decay=own.weight_decay, **kind)


def train_of(config: PretrainConfig, part: str) -> TrainConfig:
    """A part's length and batch."""
    if part != "semantic":
        return config.train
    return config.train.model_copy(update={"epochs": config.semantic.epochs, "batch_size": config.semantic.batch_size, "accumulate": 1})


def build(config: PretrainConfig, part: str, features: int = 0) -> Reconstruction | Discrimination:
    """A part's method with seeded weights, or those of `config.init`."""
    setup.seed_weights(config, PARTS.index(part))
    if part == "semantic":
        return Discrimination(config.semantic, features)
    method = Reconstruction(config)
    if config.init:
        folder = find_model(config.init)
        if weights := encoder_weights(load_weights(folder), f"{part}."):
            load_strict(method.autoencoder, weights, str(folder))
    return method


class Session:
    """One run of `vid pretrain`.

    Attributes:
        footage: the training videos.
        normal: what the detector is calibrated on.
        device: of this process.
    """

    def __init__(self, config: PretrainConfig, run: Run, footage: list[Footage], normal: list[Footage], pseudo: PseudoFolder | None):
        self.config, self.run, self.footage, self.normal = config, run, footage, normal
        self.world = world()
        self.accelerator = make_accelerator(config.train, run)
        self.device = self.accelerator.device
        self.flow = flow_used(footage, config.flow, pseudo.tvl1 if pseudo else None) if "motion" in parts_of_run(config) else config.flow
        if self.flow != config.flow and run.main:
            run.reporter.info(f"flow as in {config.pseudo}: short side {self.flow.short_side} px, {self.flow.tvl1.warps} warps")
        self.encoder = load_encoder(config.semantic.encoder).to(self.device) if "semantic" in parts_of_run(config) else None
        run.record(device=str(self.device))

    def train(self, part: str) -> dict[str, torch.Tensor]:
        """Trains one part to its end, from its newest checkpoint; returns its weights on the CPU."""
        settings = self.config.model_copy(update={"train": train_of(self.config, part), "optim": optim_of(self.config, part)})
        loader, prepare, items = {"appearance": self._appearance, "motion": self._motion, "semantic": self._semantic}[part]()
        method = build(self.config, part, self.encoder.dim if self.encoder else 0)
        feed = setup.Feed(loader, prepare, setup.micro_per_epoch(items, settings))
        trained = setup.train(self.run.part(part), settings, method, feed, f"{part}, {items} items").evaluated_model
        network = trained.discriminator if part == "semantic" else trained.autoencoder
        return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}

    def wait(self) -> None:
        """For all processes."""
        self.accelerator.wait_for_everyone()

    def architecture(self) -> dict[str, Any]:
        """What `stream.Networks` is built from."""
        config = self.config
        semantic = None
        if self.encoder is not None:
            kept = {"hidden": config.semantic.hidden, "normalize": config.semantic.normalize}
            semantic = {"features": self.encoder.dim, **kept, "encoder": self.encoder.saved}
        return {
            "parts": parts_of_run(config),
            "autoencoder": config.model.model_dump(exclude={"norm"}),
            "flow": self.flow.model_dump(),
            "semantic": semantic,
        }

    def encoder_weights(self) -> dict[str, torch.Tensor]:
        """Of the frozen frame encoder, by their names in `stream.Networks`."""
        return {f"features.{name}": tensor.cpu() for name, tensor in self.encoder.state_dict().items()} if self.encoder else {}

    def calibration(self, networks: Networks) -> dict[str, dict[str, float]]:
        """What the indicators are like on normal footage, as `calibrate` says it."""
        chosen = stretches(self.normal, networks.model.frames)
        with self.working("calibration on normal footage", _frames(chosen)) as tick:
            return calibrate(networks, chosen, self.config.data, tick)

    def _appearance(self) -> Items:
        config, train = self.config, self.config.train
        clips = FrameClips(self.footage, config.data, config.model.frames, config.p_s, train.seed)
        return frame_loader(clips, train.batch_size, *self.world, train.seed), frame_batches(config.model.image_size), len(clips)

    def _motion(self) -> Items:
        config, train = self.config, self.config.train
        with self._preparing("motion", "optical flow", _frames(self.footage[self._share])) as tick:
            folder = self.run.folder / "motion" / "prepared"
            size, decoder = config.model.image_size, config.data.decoder
            files = flow_files(self.footage, self.flow, size, folder, self.device, decoder, self._share, tick)
        clips = FlowClips(self.footage, files, config.model.frames, config.p_t, train.seed)
        loader = flow_loader(clips, config.data, train.batch_size, *self.world, train.seed)
        return loader, flow_batches(self.flow), len(clips)

    def _semantic(self) -> Items:
        config = self.config
        twins = [item for item in self.footage if item.frames]
        with self._preparing("semantic", "features", 2 * _frames(twins[self._share])) as tick:
            folder = self.run.folder / "semantic" / "prepared"
            files = feature_files(twins, self.encoder, folder, self.device, config.data.decoder, self._share, tick)
        normal, pseudo = (torch.from_numpy(np.concatenate([np.load(pair[kind]) for pair in files])) for kind in (0, 1))
        labels = torch.cat((torch.zeros(len(normal)), torch.ones(len(pseudo))))
        loader = feature_loader(torch.cat((normal, pseudo)), labels, config.semantic.batch_size, *self.world, config.train.seed)
        return loader, lambda batch, device: {name: batch[name].to(device) for name in ("features", "label")}, len(labels)

    @property
    def _share(self) -> slice:
        """Of videos: those that this process prepares."""
        return self.world.share

    @contextmanager
    def _preparing(self, part: str, what: str, frames: int) -> Iterator[Tick]:
        """Files of a part in the making, and all processes at its end."""
        (self.run.folder / part / "prepared").mkdir(parents=True, exist_ok=True)
        with self.working(what, frames) as tick:
            yield tick
        self.wait()

    @contextmanager
    def working(self, what: str, frames: int) -> Iterator[Tick]:
        """Progress over frames, and an end on a signal."""
        with StopFlag() as stop, self.run.reporter.progress(what, frames, "frame") as bar:

            def tick(done: int) -> None:
                if stop.received:
                    raise exit_for(stop.received)(f"stopped by a signal during {what}", "run the same command again to continue")
                bar.advance(done)

            yield tick


def _frames(footage: list[Footage]) -> int:
    return sum(item.high - item.low for item in footage)
