"""What the memory of the segmenter consists of."""

memory_parts = [
    "segmenter.model.memory_*",
    "segmenter.model.no_memory_embedding",
    "segmenter.model.no_object_pointer",
    "segmenter.model.object_pointer_proj.*",
    "segmenter.model.occlusion_spatial_embedding_parameter",
    "segmenter.model.temporal_positional_encoding_projection_layer.*",
]
