"""Warnings, before atc runs, of what it may not build for a chip: operators, opset, types, precision.

The lists are the vendor's: the documents' ONNX operators of CANN 5.0.4 and 8.0, and those that the public sources of
June 2022 register. Nothing here was tried on a card, so what is in no list is told and not refused: atc has the last
word.
"""
from __future__ import annotations

from typing import Iterator, Optional

from ascend import cann
from ascend.soc import family
from contract.onnx_file import OnnxFacts

# In lower case, for the documents write Argmax and hardmax. Operators known before CANN 7:
LISTED = frozenset("""
abs acos acosh add and argmax argmin ascendantiquant ascenddequant ascendquant asin asinh atan atanh averagepool
batchnormalization bitshift cast ceil celu clip compress concat constant constantofshape conv convtranspose cos cosh
cumsum depthtospace det div dropout einsum elu equal erf exp expand eyelike flatten floor gather gatherelements
gathernd gemm globalaveragepool globallppool globalmaxpool greater greaterorequal gru hardmax hardsigmoid hardswish
identity if instancenormalization isinf isnan leakyrelu less lessorequal log logsoftmax lpnormalization lppool lrn lstm
matmul max maxpool maxroipool maxunpool mean meanvariancenormalization min mod mul multinomial neg nonmaxsuppression
nonzero not onehot or pad pow prelu randomnormal randomnormallike randomuniform randomuniformlike range reciprocal
reducel1 reducel2 reducelogsum reducelogsumexp reducemax reducemean reducemin reduceprod reducesum reducesumsquare relu
reshape resize reversesequence roialign round scatter scatterelements scatternd selu shape shrink sigmoid sign sin sinh
size slice softmax softplus softsign spacetodepth split sqrt squeeze sub sum tan tanh tfidfvectorizer thresholdedrelu
tile topk transpose unsqueeze upsample where xor
""".split())
LISTED_8 = frozenset("""
bitwiseand bitwisenot bitwiseor bitwisexor gridsample layernormalization softmaxcrossentropyloss trilu
""".split())  # in the list of 8.0 alone
NOT_ON = {"310b": {"DepthToSpace"}}  # family of a chip -> what its own list does not have
LAST_OF_310, FIRST_OF_950 = (8, 2), (9,)  # releases whose documents name the chip
KEEPS_FLOAT32 = ("must_keep_origin_dtype", "origin")
FLOAT16_CONVOLUTIONS = ("310", "310p")  # families without a convolution of float32


def foresee(facts: OnnxFacts, soc_version: str, version: Optional[str], precision: Optional[str]) -> Iterator[str]:
    """What may fail, one sentence each. `version` is CANN's, `precision` that of --precision_mode or its v2."""
    release, chip = cann.numbers(version or ""), family(soc_version)
    for name in facts.operators:
        yield from _foresee_operator(name, chip, release, version)
    if facts.dtype == "DOUBLE":
        yield "its input is float64, and convolutions take float32, float16 and int8: export it as float32"
    if precision in KEEPS_FLOAT32 and chip in FLOAT16_CONVOLUTIONS and "Conv" in facts.operators:
        yield (f"{precision} keeps convolutions in float32, which {soc_version} does not have: they run on the AI CPU, "
               "slowly, or atc fails. allow_fp32_to_fp16 builds")
    if release and chip == "310" and release[:2] > LAST_OF_310:
        yield f"{soc_version} is in the documents up to CANN 8.2, and this is {version}"
    if release and chip == "950" and release < FIRST_OF_950:
        yield f"{soc_version} is in the documents from CANN 9.0 on, and this is {version}"


def _foresee_operator(name: str, chip: str, release: cann.Version, version: Optional[str]) -> Iterator[str]:
    domain, _, plain = name.rpartition("::")
    short = plain.partition(" ")[0]
    if domain:
        yield f"{name} is an operator of {domain}, and atc knows those of ai.onnx: export the network without it"
    elif short.lower() not in LISTED | LISTED_8:
        yield f"{short} is in no list of ONNX operators of CANN: atc may end with E19010 or E16002"
    elif short.lower() in LISTED_8 and release and release < (8,):
        yield f"{short} is in the list of CANN 8.0 and in none before, and this is {version}"
    if short in NOT_ON.get(chip, ()):
        yield f"{short} is not in the vendor's list for {chip.upper()}"
    if short == "DepthToSpace" and not plain.endswith((" DCR", " CRD")):
        yield f"{plain}: expected the mode DCR or CRD"
