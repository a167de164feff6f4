"""compile: a function of tensors as one native program."""

from flambeau.compiler.markers import (
    allow_in_graph,
    assume_constant_result,
    cudagraph_mark_step_begin,
    disable,
    is_compiling,
    is_dynamo_compiling,
    is_exporting,
)
