"""Models as files that other runtimes predict with; `onnx_file.write` is the way in."""
