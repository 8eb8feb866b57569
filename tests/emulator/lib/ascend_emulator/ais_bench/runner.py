"""Feeding a session: the modes of --run_mode, and the pipeline."""
from __future__ import annotations

import sys
from typing import Any, Callable, List, Optional

import aclruntime
import numpy as np
from tqdm import tqdm

from .files import batch_of, real_files, save
from .log import logger
from .report import Report

BARS = {"array": "Inference array Processing", "tensor": "Inference tensor Processing",
        "files": "Inference files Processing", "full": "Inference Processing full"}


def combines(args: Any) -> bool:
    return not (args.auto_set_dymshape_mode or args.auto_set_dymdims_mode)


class Runner:
    """A session with its options; `feed` turns the files of a run into what session.run takes."""

    def __init__(self, session: Any, args: Any, report: Report):
        self.session, self.args, self.report = session, args, report
        self.tensors = session.get_inputs()
        self.names = [tensor.name for tensor in session.get_outputs()]

    def arrays(self, files: List[List[str]]) -> List[np.ndarray]:
        args = self.args
        return [batch_of(one, tensor.realsize, args.pure_data_type, combines(args), args.new)
                for one, tensor in zip(files, self.tensors)]

    def device_tensors(self, files: List[List[str]]) -> List[Any]:
        tensors = [aclruntime.Tensor(array) for array in self.arrays(files)]
        for tensor in tensors:
            tensor.to_device(self.args.device)
        return tensors

    def from_files(self, files: List[List[str]]) -> List[Any]:
        return [self.session.create_tensor_from_fileslist(tensor, real_files(one))
                for one, tensor in zip(files, self.tensors)]

    def run(self, feeds: List[Any]) -> List[Any]:
        if not combines(self.args):
            shapes = ";".join(f"{tensor.name}:{','.join(map(str, feed.shape))}"
                              for tensor, feed in zip(self.tensors, feeds))
            (self.session.set_dynamic_shape if self.args.auto_set_dymshape_mode else self.session.set_dynamic_dims)(
                shapes)
            self.report.batchsizes.append(feeds[0].shape[0])
        if not isinstance(feeds[0], np.ndarray):
            return self.session.run(self.names, feeds)
        addresses = [(feed.__array_interface__["data"][0], feed.nbytes) for feed in feeds]  # `feeds` keeps them alive
        return self.session.run(self.names, [aclruntime.BaseTensor(*address) for address in addresses])

    def warm_up(self, files: List[List[str]]) -> None:
        """Fed as arrays in every mode but tensor."""
        feeds = self.device_tensors(files) if self.args.run_mode == "tensor" else self.arrays(files)
        self.session.options().loop = 1
        for _ in range(self.args.warmup_count):
            for tensor in self.run(feeds):
                tensor.to_host()
        self.session.options().loop = self.args.loop
        self.report.batchsizes = []
        self.session.reset_sumaryinfo()
        aclruntime.MemorySummary().reset()
        logger.info(f"warm up {self.args.warmup_count} done")

    def save(self, outputs: List[Any], folder: Optional[str], files: List[List[str]], number: int) -> None:
        for tensor in outputs:
            tensor.to_host()
        if folder is not None:
            save(outputs, folder, files, self.args, number, self.report)

    def run_all(self, runs: List[Any], folder: Optional[str]) -> None:
        mode = self.args.run_mode
        if mode == "full":
            feeds = [self.device_tensors(files) for files in runs]
            results = [self.run(one) for one in tqdm(feeds, file=sys.stdout, desc=BARS[mode])]
            for number, outputs in enumerate(results):
                self.save(outputs, folder, runs[number], number)
            return
        feed: Callable = {"array": self.arrays, "tensor": self.device_tensors, "files": self.from_files}[mode]
        for number, files in enumerate(tqdm(runs, file=sys.stdout, desc=BARS[mode])):
            self.save(self.run(feed(files)), folder, files, number)

    def run_pipeline(self, runs: List[Any], folder: Optional[str], others: List[Any]) -> None:
        logger.info(f"run in pipeline mode with computing threadsnumber:{self.args.threads}")
        options = aclruntime.infer_options()
        options.output_dir, options.out_format = folder or "", self.args.outfmt
        options.auto_dym_shape, options.auto_dym_dims = (self.args.auto_set_dymshape_mode,
                                                         self.args.auto_set_dymdims_mode)
        options.pure_infer_mode = self.args.input is None
        self.session.run_pipeline(runs, options, others)
