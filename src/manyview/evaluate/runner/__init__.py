"""One loop: every plan and reference on every scene, measured by a protocol."""
