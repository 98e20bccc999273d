"""The tables and figures of the SCNet paper, a table of StarDist's, and left and right parts of
cars, as commands: `scnet experiment NAME`.

    plan.py       sizes, runs and their command lines
    runs.py       carry out trainings, each once, and read what came of them
    tables.py     the rows of tables 1 to 5, and the published figures (`published.csv`)
    compare.py    rows over seeds, and differences paired by seed
    tabulate.py   carries out a table
    carparts.py   left and right parts of cars, at equal steps and at equal time
    figure1.py    IoU of the samples that reach the mask branch, in training and at inference
    figure6.py    what methods find in the same images, chosen by rule
    speed.py      images a second of all methods beside each other
    stardist.py   StarDist's table: choose on validation images, test once; stardist_splits.py  the
                  parts of its data; stardist_page.py  its page, and the published figures
    statistics.py mean and spread, decided or not, distance of distributions
    plots.py      pictures; page.py  the Markdown page; command.py  what the command line calls

Nothing heavy is imported here, as the command line reads the names.
"""

from __future__ import annotations

EXPERIMENTS = {
    "table1": "Mask R-CNN, Cascade Mask R-CNN, HTC and SCNet: accuracy, speed, memory",
    "table2": "sample consistency, feature relay and global context, on and off",
    "table3": "no, naive and effective sample consistency",
    "table4": "feature relay in Mask R-CNN and Cascade Mask R-CNN",
    "table5": "loss weight of the global context",
    "figure1": "IoU of the samples that reach the mask branch, in training and at inference",
    "figure6": "what Cascade Mask R-CNN, HTC and SCNet find in the same images",
    "carparts": "left and right parts of cars, at equal steps and at equal time",
    "stardist": "nuclei matched one to one as in StarDist's table, chosen on validation images",
    "speed": "images a second of all methods beside each other, and where the time goes",
}
# Which of them some options speak to; `scnet experiment` refuses the others.
SEEDED = tuple(name for name in EXPERIMENTS if name not in ("figure6", "speed"))  # --seeds
WITH_SPEED = tuple(name for name in EXPERIMENTS if name.startswith("table"))  # --speed
SIZED = ("speed",)  # --image-size
STEPPED = ("stardist",)  # --steps
TESTED = ("stardist",)  # --test

USUAL_DATA = {  # where it is not that of the size
    "carparts": "carparts/annotations/instances_fit320.json",
    "stardist": "dsb2018_stardist",
}

WITHOUT_TRAINING = ("speed",)  # takes the models that others have trained, if any
