"""What a fresh Python prints when NumPy may use no vector instructions."""

import os
import subprocess
import sys

import numpy as np


def printed(code):
    """Run code in another process without SIMD and return what it prints."""
    features = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(features)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=os.environ | plain, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
