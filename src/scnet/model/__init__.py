"""The detector.

In reading order: detector, backbone, rpn, sampling, cascade, features, box_stage, mask_branch.
"""
