"""The part of Caffe's file format that is written and read here, as protobuf messages made at run time.

BVLC's caffe.proto has no package in the index, and generated copies of it need an old protobuf. A message is fully said
by its field numbers, so they stand here. Only fields of BVLC's own schema: forks give 13 of PoolingParameter two
meanings, so it is never written.
"""
from __future__ import annotations

from typing import Any, Dict, Tuple

WEIGHTS_LINE = "# sha256 of the .caffemodel: "  # the first line of a prototxt that was written here
REPEATED, PACKED = "repeated", "packed"
# message -> field -> (number, type, label); a type that begins with a capital is a message
FIELDS: Dict[str, Dict[str, Tuple[Any, ...]]] = {
    "BlobShape": {"dim": (1, "int64", PACKED)},
    "BlobProto": {"shape": (7, "BlobShape"), "data": (5, "float", PACKED)},
    "NetParameter": {"name": (1, "string"), "layer": (100, "LayerParameter", REPEATED)},
    "LayerParameter": {
        "name": (1, "string"), "type": (2, "string"), "bottom": (3, "string", REPEATED), "top": (4, "string", REPEATED),
        "blobs": (7, "BlobProto", REPEATED), "convolution_param": (106, "ConvolutionParameter"),
        "eltwise_param": (110, "EltwiseParameter"), "inner_product_param": (117, "InnerProductParameter"),
        "mvn_param": (120, "MVNParameter"), "pooling_param": (121, "PoolingParameter"),
        "concat_param": (104, "ConcatParameter"),
        "scale_param": (142, "ScaleParameter"), "input_param": (143, "InputParameter")},
    "ConcatParameter": {"axis": (2, "int32")},
    "ConvolutionParameter": {
        "num_output": (1, "uint32"), "bias_term": (2, "bool"), "pad": (3, "uint32", REPEATED),
        "kernel_size": (4, "uint32", REPEATED), "group": (5, "uint32"), "stride": (6, "uint32", REPEATED),
        "pad_h": (9, "uint32"), "pad_w": (10, "uint32"), "kernel_h": (11, "uint32"), "kernel_w": (12, "uint32"),
        "stride_h": (13, "uint32"), "stride_w": (14, "uint32"), "dilation": (18, "uint32", REPEATED)},
    "EltwiseParameter": {"operation": (1, "EltwiseOp")},
    "InnerProductParameter": {"num_output": (1, "uint32"), "bias_term": (2, "bool")},
    "InputParameter": {"shape": (1, "BlobShape", REPEATED)},
    "MVNParameter": {"normalize_variance": (1, "bool"), "across_channels": (2, "bool"), "eps": (3, "float")},
    "PoolingParameter": {"pool": (1, "PoolMethod"), "kernel_size": (2, "uint32"), "stride": (3, "uint32"),
                         "pad": (4, "uint32"), "global_pooling": (12, "bool")},
    "ScaleParameter": {"axis": (1, "int32"), "bias_term": (4, "bool")},
}
ENUMS = {"EltwiseOp": {"PROD": 0, "SUM": 1, "MAX": 2}, "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2}}  # nested


def message_classes() -> Dict[str, Any]:
    """Name -> class of every message of FIELDS, of a descriptor pool of their own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    schema = descriptor_pb2.FileDescriptorProto(name="caffe_subset.proto", package="caffe", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = schema.message_type.add(name=name)
        for field, (number, kind, *label) in fields.items():
            added = message.field.add(name=field, number=number,
                                      label=kinds.LABEL_REPEATED if label else kinds.LABEL_OPTIONAL)
            if kind in ENUMS:
                added.type, added.type_name = kinds.TYPE_ENUM, f".caffe.{name}.{kind}"
                enum = message.enum_type.add(name=kind)
                for value, code in ENUMS[kind].items():
                    enum.value.add(name=value, number=code)
            elif kind in FIELDS:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
            added.options.packed = label == [PACKED]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(schema)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in FIELDS}
