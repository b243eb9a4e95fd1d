"""Transformers without SciPy and scikit-learn, which it would load with any model, for what is not used here.

They are for the losses of object detection and a way of writing texts, and a fifth of what a process takes to start.
Import this before any model.
"""

from transformers.utils import import_utils

import_utils._scipy_available = import_utils._sklearn_available = False
