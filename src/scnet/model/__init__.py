"""The detector.

In reading order: detector, backbone, rpn, sampling, roi_heads, features, box_stage, mask_branch.
"""
