"""Instance-weighted IoU (iIoU) as Cityscapes' own scripts compute it.

Plain IoU counts pixels, so one near car outweighs twenty far ones. iIoU weighs the
pixels of each instance by the average size of its class over the size of the instance
(Cordts et al. 2016, section 4.1). False positives have no instance and stay unweighted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.metrics import Counts, category_members
from rtseg.engines.labels import CITYSCAPES, ClassTable

#: Mean size of an instance in Cityscapes, as its evaluation scripts have it.
AVERAGE_SIZE_PIXELS: dict[str, float] = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
#: Instance images hold label id * 1000 + number; smaller values are no single instance.
INSTANCES_A_LABEL = 1000


class InstanceStats:
    """Adds up weighted right and wrong pixels of instances, image by image.

    Args:
        table: the classes; those of `AVERAGE_SIZE_PIXELS` have instances.

    Attributes:
        images: how many images were added.
    """

    def __init__(self, table: ClassTable = CITYSCAPES) -> None:
        self._table = table
        self._classes = {
            label_id: number
            for number, (name, label_id) in enumerate(
                zip(table.names, table.label_ids, strict=True)
            )
            if name in AVERAGE_SIZE_PIXELS
        }
        #: Categories of which every class has instances: human and vehicle.
        self._members = {
            name: members
            for name, members in category_members(table).items()
            if set(members) <= set(self._classes.values())
        }
        #: Weighted (right, wrong) pixels by class, and by category.
        self._of_class = np.zeros((len(table), 2))
        self._of_category = {name: np.zeros(2) for name in self._members}
        self.images = 0

    def add(self, instances: NDArray[np.uint16], prediction: NDArray[np.uint8]) -> None:
        """Add one image.

        Args:
            instances: instance ids as Cityscapes stores them, uint16 (H, W).
            prediction: class ids uint8 (H, W).

        Raises:
            CalibrationError: shapes differ.
        """
        if instances.shape != prediction.shape:
            raise CalibrationError(
                f"instances {instances.shape} and prediction {prediction.shape} differ in shape",
                reason="BAD_INPUT",
            )
        chosen = instances > INSTANCES_A_LABEL
        ids, index = np.unique(instances[chosen], return_inverse=True)
        # One histogram of the classes seen inside each instance.
        classes = 256
        seen = np.bincount(
            index * classes + prediction[chosen], minlength=len(ids) * classes
        ).reshape(len(ids), classes)
        for instance, counts in zip(ids, seen, strict=True):
            number = self._classes.get(int(instance) // INSTANCES_A_LABEL)
            if number is None:
                continue
            size = int(counts.sum())
            weight = AVERAGE_SIZE_PIXELS[self._table.names[number]] / size
            right = int(counts[number])
            self._of_class[number] += weight * right, weight * (size - right)
            category = self._table.categories[number]
            if category in self._members:
                right = int(counts[list(self._members[category])].sum())
                self._of_category[category] += weight * right, weight * (size - right)
        self.images += 1

    def class_iou(self, matrix: Counts) -> NDArray[np.float64]:
        """Compute iIoU by class.

        Args:
            matrix: the confusion matrix of the same images.

        Returns:
            float64 (classes,), NaN for classes without instances and for those that are
            in neither truth nor prediction.
        """
        result = np.full(len(self._table), np.nan)
        for number in self._classes.values():
            false_positive = int(matrix[:, number].sum() - matrix[number, number])
            result[number] = _ratio(self._of_class[number], false_positive)
        return result

    def category_iou(self, matrix: Counts) -> dict[str, float]:
        """Compute iIoU by category, for those of which every class has instances.

        Args:
            matrix: the confusion matrix of the same images.
        """
        result = {}
        for name, members in self._members.items():
            columns = matrix[:, members].sum()
            false_positive = int(columns - matrix[np.ix_(members, members)].sum())
            result[name] = _ratio(self._of_category[name], false_positive)
        return result


def _ratio(right_wrong: NDArray[np.float64], false_positive: int) -> float:
    union = float(right_wrong.sum()) + false_positive
    return float(right_wrong[0]) / union if union else float("nan")
